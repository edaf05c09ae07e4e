"""A run as one HTML file that works offline.

The page holds its style, its script and plotly.js; its content policy forbids it to ask any server
for anything. Text from the run is escaped by the template.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskvectors.errors import TaskVectorsError
from taskvectors.figures import VERMILION, AnyFigure, Heatmap, Style
from taskvectors.report import facts, tables
from taskvectors.report.alternative_text import alternative_text
from taskvectors.report.explain_pages import pages, vector_in_words
from taskvectors.report.explanation import ExplanationRun, is_explanation, read_explanation
from taskvectors.report.plotly_chart import draw_plotly, plotly_script
from taskvectors.report.run import Run, read_run
from taskvectors.report.run_figures import run_figures
from taskvectors.report.standing import seeds_of, standing
from taskvectors.report.verdict import headline
from taskvectors.report.wording import method_name

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FILE_NAME = "report.html"
_SHOWN = (
    "model", "family", "dtype", "weights_note", "task", "template", "shots", "seed", "seconds",
    "vector", "method", "other_vector", "n_layers", "n_heads", "n_key_value_heads",
)  # fmt: skip
"""Settings of a run of analyses that its page names."""
_INTERVAL = re.compile(r"\[[^\]]{,30}\]")


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """One line of a chart's legend."""

    label: str
    style: Style
    has_line: bool
    has_marker: bool


def write_report(folder: Path) -> Path:
    """The report of a run, written into its folder whole or not at all.

    Args:
        folder: A run folder.

    Returns:
        Path of `report.html`.

    Raises:
        DataError: The folder does not hold a readable run.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    if is_explanation(folder):
        text = render_explanation(read_explanation(folder))
    else:
        text = render(read_run(folder))
    path = folder / FILE_NAME
    part = folder / f".{FILE_NAME}.{os.getpid()}.part"
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def render(run: Run) -> str:
    """The page as text.

    Args:
        run: What to show.

    Returns:
        One HTML document with everything it needs inside.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    environment = _environment()
    figures = run_figures(run)
    methods, examples = tables.example_rows(run)
    table = tables.full_table(run)
    notes = facts.notes(run, table.empty)
    icl = standing(run, "icl")
    return environment.get_template("report.html").render(
        css=_source(environment, "style.css"),
        script=_source(environment, "report.js"),
        plotly=plotly_script() if figures else "",
        drawings=drawings(figures),
        figures=figures,
        legends={figure.name: legend(figure) for figure in figures},
        alternatives={figure.name: alternative_text(figure) for figure in figures},
        config=run.config,
        headline=headline(run),
        settings=facts.settings(run.config),
        versions=facts.environment(run.config),
        command=facts.command(run.config),
        notes=notes,
        sources=facts.sources(run),
        sections=facts.sections(run, figures, bool(notes)),
        main=tables.main_rows(run),
        controls=tables.control_rows(run),
        has_seeds=len(seeds_of(run)) > 1,
        icl_share=None if icl is None else 100 * icl.accuracy,
        example_methods=[method_name(name) for name in methods],
        examples=examples,
        example_summary=tables.example_summary(run),
        columns=table.columns,
        cells=table.cells,
    )


def render_explanation(run: ExplanationRun) -> str:
    """The page of a run of analyses as text: a part for each, with its sentence and figure.

    Args:
        run: What to show.

    Returns:
        One HTML document with everything it needs inside.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    environment = _environment()
    figures = [one.figure for one in run.analyses if one.figure is not None]
    return environment.get_template("explain.html").render(
        css=_source(environment, "style.css"),
        script=_source(environment, "report.js"),
        plotly=plotly_script() if figures else "",
        drawings=drawings(figures),
        legends={figure.name: legend(figure) for figure in figures},
        alternatives={figure.name: alternative_text(figure) for figure in figures},
        config=run.config,
        where=vector_in_words(run.config),
        pages=pages(run),
        settings=facts.settings({k: v for k, v in run.config.items() if k in _SHOWN}),
        versions=facts.environment(run.config),
    )


def legend(figure: AnyFigure) -> list[LegendEntry]:
    """The legend of a chart, which the page lays out so that it never covers data."""
    if isinstance(figure, Heatmap):
        if not figure.marked:
            return []
        return [
            LegendEntry(label=figure.mark_label, style=VERMILION, has_line=False, has_marker=True)
        ]
    series = [
        LegendEntry(
            label=item.label,
            style=item.style,
            has_line=item.kind == "line",
            has_marker=item.has_markers,
        )
        for item in figure.series
    ]
    lines = [
        LegendEntry(label=line.label, style=line.style, has_line=True, has_marker=False)
        for line in figure.references
    ]
    return series + lines


def drawings(figures: Sequence[AnyFigure]) -> str:
    """The charts as JSON that can stand inside a script element, for light and for dark ground."""
    made = {
        figure.name: {
            theme: json.loads(draw_plotly(figure, dark=theme == "dark").to_json())
            for theme in ("light", "dark")
        }
        for figure in figures
    }
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    # a closing tag or a comment inside a text must not end the element
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _environment() -> "Environment":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise TaskVectorsError(
            "the HTML report needs jinja2, which is not installed; pip install 'taskvectors[demo]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("taskvectors.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _unbroken(text: str) -> "Markup":
    """Escaped text in which no line breaks inside an interval."""
    from markupsafe import Markup, escape

    return Markup(_INTERVAL.sub(r'<span class="unbroken">\g<0></span>', str(escape(text))))


def _source(environment: "Environment", name: str) -> str:
    """A file beside the template, as it is: style and script are ours and must not be escaped."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
