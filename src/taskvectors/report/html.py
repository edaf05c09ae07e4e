"""A page as one HTML file that works offline.

It holds its style, its script and plotly.js; its content policy forbids it to ask any server for
anything. Text from the run is escaped by the template, its control characters by `printable`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskvectors.errors import require_package
from taskvectors.format import printable
from taskvectors.report.page import Beside, Command, Page, Text
from taskvectors.report.plotly_chart import draw_plotly, plotly_script
from taskvectors.report.table import Table
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


def page_html(page: Page) -> str:
    """A page as text.

    A chart is known by its number on the page: names from data are no ids.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    environment = _environment()
    figures = page.figures()
    return environment.get_template("page.html").render(
        page=page,
        css=_source(environment, "style.css"),
        script=_source(environment, "report.js"),
        plotly=plotly_script() if figures else "",
        drawings=drawings(figures),
        charts={id(figure): number for number, figure in enumerate(figures)},
        legend=legend,
        alternative=alternative_text,
        kind_of=_kind_of,
        id=id,
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


def alternative_text(figure: AnyFigure) -> str:
    """What a chart shows, for readers who do not see it; its numbers are in the page's tables."""
    if isinstance(figure, Heatmap):
        return (
            f"{figure.title}: {figure.value_label} by {figure.y_label.lower()} and "
            f"{figure.x_label.lower()}."
        )
    shown = [one.label for one in figure.series] + [line.label for line in figure.references]
    return (
        f"{figure.title}: {figure.y_label} against {figure.x_label.lower()}. "
        f"Drawn: {'; '.join(shown)}."
    )


def drawings(figures: Sequence[AnyFigure]) -> str:
    """The charts as JSON that can stand inside a script element, for light and for dark ground."""
    made = [
        {
            theme: json.loads(draw_plotly(figure, dark=theme == "dark").to_json())
            for theme in ("light", "dark")
        }
        for figure in figures
    ]
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    # a closing tag or a comment inside a text must not end the element
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _kind_of(block: Any) -> str:
    """Which macro draws a block."""
    kinds: dict[type, str] = {Text: "text", Command: "command", Table: "table", Beside: "beside"}
    return kinds.get(type(block), "chart")


def _environment() -> "Environment":
    require_package("jinja2", "demo", "the HTML report")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("taskvectors.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _shown(value: Any) -> Any:
    """What a template prints: no control character of a run's text is left in it."""
    from markupsafe import Markup

    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _unbroken(text: str) -> "Markup":
    """Escaped text in which no line breaks inside an interval."""
    from markupsafe import Markup, escape

    shown = str(escape(printable(text)))
    return Markup(_INTERVAL.sub(r'<span class="unbroken">\g<0></span>', shown))


def _source(environment: "Environment", name: str) -> str:
    """A file beside the template, as it is: style and script are ours and must not be escaped."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
