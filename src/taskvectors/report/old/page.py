"""The frame of every page: its template, its style and script, its charts and their legends."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskvectors.errors import TaskVectorsError
from taskvectors.report.old.alternative_text import alternative_text
from taskvectors.report.plotly_chart import draw_plotly, plotly_script
from taskvectors.results.figures import VERMILION, AnyFigure, Heatmap, Style

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_INTERVAL = re.compile(r"\[[^\]]{,30}\]")


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """One line of a chart's legend."""

    label: str
    style: Style
    has_line: bool
    has_marker: bool


def fill(template: str, figures: Sequence[AnyFigure], **about: Any) -> str:
    """A page as text.

    Args:
        template: File of the template.
        figures: Every figure that the page draws; no two of one name.
        about: What the template asks for besides.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    environment = _environment()
    return environment.get_template(template).render(
        css=_source(environment, "style.css"),
        script=_source(environment, "report.js"),
        plotly=plotly_script() if figures else "",
        drawings=drawings(figures),
        figures=figures,
        legends={figure.name: legend(figure) for figure in figures},
        alternatives={figure.name: alternative_text(figure) for figure in figures},
        **about,
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
        loader=PackageLoader("taskvectors.report.old", "templates"),
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
