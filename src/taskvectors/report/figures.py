"""What a figure shows, apart from what draws it.

One description is drawn by plotly for HTML and by matplotlib for files, so both show the same.
Colours are those of Okabe and Ito, which colour-blind readers can tell apart; each style also has
its own dash and marker, so that a print in grey can be read.
"""

from dataclasses import dataclass
from typing import Literal

from taskvectors.report.wording import percent

Dash = Literal["solid", "dash", "dashdot", "dot", "longdash"]
Marker = Literal["circle", "square", "diamond", "triangle-up", "cross"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colour on light and on dark ground, dash and marker."""

    light: str
    dark: str
    dash: Dash
    marker: Marker


BLUE = Style(light="#0072B2", dark="#56B4E9", dash="solid", marker="circle")
VERMILION = Style(light="#D55E00", dark="#E69F00", dash="dash", marker="square")
GREEN = Style(light="#007A5A", dark="#19B98D", dash="dashdot", marker="diamond")
PURPLE = Style(light="#A8558A", dark="#CC79A7", dash="longdash", marker="triangle-up")
GREY = Style(light="#55595F", dark="#A6ABB2", dash="dot", marker="cross")
STYLES = (BLUE, VERMILION, GREEN, PURPLE, GREY)
"""In order of use. Green and purple are the palette's, darkened to stand out on white."""

_MOST_MARKED = 40


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together.

    Attributes:
        label: Name in the legend.
        x: Places.
        y: Values; `None` leaves a gap.
        low: Lower ends of the intervals, or empty.
        high: Upper ends, or empty.
        style: Colour, dash and marker.
        kind: `line` draws a band for the intervals, `point` draws bars.
        open_at: Places whose marker is hollow.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    style: Style = BLUE
    kind: Literal["line", "point"] = "line"
    open_at: tuple[float, ...] = ()

    @property
    def has_markers(self) -> bool:
        """Whether single points are marked: not on long curves, where they would merge."""
        return self.kind == "point" or len(self.x) <= _MOST_MARKED

    def __post_init__(self) -> None:
        for name in ("y", "low", "high"):
            count = len(getattr(self, name))
            if count != len(self.x) and (count or name == "y"):
                raise ValueError(
                    f"series {self.label!r} has {len(self.x)} places and {count} values of {name}; "
                    "expected as many"
                )


@dataclass(frozen=True, kw_only=True)
class ReferenceLine:
    """A horizontal line to compare a series with."""

    label: str
    y: float
    style: Style = GREY


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart of series over a common axis.

    Attributes:
        name: Short name; the file's stem and the chart's id in HTML.
        title: What is shown, without its result.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        series: What is drawn.
        references: Horizontal lines.
        x_ticks: Places and texts of the ticks, or empty to let the drawing choose.
        shares: Whether y is a share, shown as percentages from 0 to 100.
        caption: What a reader needs to know to read the chart.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    references: tuple[ReferenceLine, ...] = ()
    x_ticks: tuple[tuple[float, str], ...] = ()
    shares: bool = False
    caption: str = ""


def alternative_text(figure: Figure) -> str:
    """The chart in words, for readers who do not see it."""
    parts = [f"{figure.title}. {figure.y_label} against {figure.x_label.lower()}."]
    ticks = dict(figure.x_ticks)
    for series in figure.series:
        drawn = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        if not drawn:
            continue
        value = {x: _value(y, figure) for x, y in drawn}
        place = {x: ticks.get(x, f"{x:g}") for x, _ in drawn}
        first, last = drawn[0][0], drawn[-1][0]
        if len(drawn) == 1:
            parts.append(f"{series.label}: {value[first]} at {place[first]}.")
            continue
        top, _ = max(drawn, key=lambda point: point[1])
        bottom, _ = min(drawn, key=lambda point: point[1])
        parts.append(
            f"{series.label}: from {value[first]} at {place[first]} to {value[last]} at "
            f"{place[last]}, highest {value[top]} at {place[top]}, lowest {value[bottom]} at "
            f"{place[bottom]}."
        )
    parts += [f"{line.label}: {_value(line.y, figure)}." for line in figure.references]
    return " ".join(parts)


def runs_without_gaps(series: Series) -> list[tuple[list[float], list[float], list[float]]]:
    """Stretches of a series where both ends of the interval are known: places, lows and highs."""
    stretches: list[tuple[list[float], list[float], list[float]]] = []
    is_open = False
    for x, low, high in zip(series.x, series.low, series.high, strict=True):
        if low is None or high is None:
            is_open = False
            continue
        if not is_open:
            stretches.append(([], [], []))
            is_open = True
        for values, value in zip(stretches[-1], (x, low, high), strict=True):
            values.append(value)
    return stretches


def span(figure: Figure) -> tuple[float, float]:
    """First and last place of a figure, widened by a little so that no marker is cut."""
    places = [x for series in figure.series for x in series.x] or [0]
    low, high = min(places), max(places)
    margin = 0.03 * (high - low) or 0.5
    return low - margin, high + margin


def _value(y: float, figure: Figure) -> str:
    return percent(y) if figure.shares else f"{y:.3g}"
