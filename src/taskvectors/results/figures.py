"""What a figure shows, apart from what draws it.

One description is drawn by plotly for HTML and by matplotlib for files, so both show the same. It
is numbers and words: what makes a figure needs nothing that draws. Colours are those of Okabe and
Ito, which colour-blind readers can tell apart; each style also has its own dash and marker, so that
a print in grey can be read.
"""

from dataclasses import dataclass, replace
from typing import Literal

Dash = Literal["solid", "dash", "dashdot", "dot", "longdash"]
Marker = Literal[
    "circle", "square", "diamond", "triangle-up", "cross",
    "triangle-down", "star", "hexagon", "pentagon", "x",
]  # fmt: skip


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
_FURTHER: tuple[Marker, ...] = ("triangle-down", "star", "hexagon", "pentagon", "x")


def style_at(number: int) -> Style:
    """The style of the series of some number; from the sixth on colours repeat, markers do not.

    The dash of a repeated colour is another one, too. After ten, all repeat.
    """
    style = STYLES[number % len(STYLES)]
    if number // len(STYLES) % 2 == 0:
        return style
    place = number % len(STYLES)
    return replace(style, marker=_FURTHER[place], dash=STYLES[(place + 1) % len(STYLES)].dash)


_MOST_MARKED = 40
_MOST_LARGE = 8
_MOST_WRITTEN = 12
_SCALES = {
    "sequential": ("#FFFFFF", "#C6DCEC", "#7FB2D6", "#2F83B9", "#003F66"),
    "diverging": ("#9A4300", "#E9A878", "#FFFFFF", "#7FB2D6", "#00466F"),
}


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

    @property
    def is_crowded(self) -> bool:
        """Whether its points are so many that they are drawn small."""
        return len(self.x) > _MOST_LARGE

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

    @property
    def has_long_ticks(self) -> bool:
        """Whether the texts of the ticks do not fit beside each other."""
        lines = [max(text.split("\n"), key=len) for _, text in self.x_ticks]
        return len(lines) * max(map(len, lines), default=0) > _TICKS_IN_A_ROW


_TICKS_IN_A_ROW = 85
"""Letters that fit below an axis in both drawings."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A table of numbers as colours: heads by layer, tasks by tasks.

    A sequential scale runs from white to dark blue, so that a print in grey keeps its order. A
    diverging one runs from vermilion over white to blue, with white at zero.

    Attributes:
        name: Short name; the file's stem and the chart's id in HTML.
        title: What is shown, without its result.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        columns: Names from left to right.
        rows: Names from top to bottom.
        values: Row by row; `None` is a cell without a value.
        value_label: What a value is.
        scale: Which colours.
        limits: Values of the first and the last colour; those of the data by default.
        marked: Cells with a frame, as (row, column).
        mark_label: What a frame means.
        shares: Whether values are shares, shown as percentages.
        caption: What a reader needs to know to read the chart.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    value_label: str
    scale: Literal["sequential", "diverging"] = "sequential"
    limits: tuple[float, float] | None = None
    marked: tuple[tuple[int, int], ...] = ()
    mark_label: str = ""
    shares: bool = False
    caption: str = ""

    def __post_init__(self) -> None:
        if [len(row) for row in self.values] != [len(self.columns)] * len(self.rows):
            raise ValueError(
                f"heatmap {self.name!r} has {len(self.rows)} rows and {len(self.columns)} columns; "
                f"its values have {[len(row) for row in self.values]}"
            )

    @property
    def colours(self) -> tuple[str, ...]:
        """The scale's colours at equal distances."""
        return _SCALES[self.scale]

    @property
    def ends(self) -> tuple[float, float]:
        """Values of the first and the last colour, never the same."""
        if self.limits is not None:
            return self.limits
        known = [value for row in self.values for value in row if value is not None] or [0.0]
        low, high = min(known), max(known)
        if self.scale == "diverging":
            reach = max(abs(low), abs(high)) or 1.0
            return -reach, reach
        return (low, high) if high > low else (low, low + 1.0)

    @property
    def is_written_out(self) -> bool:
        """Whether there is room for a number in every cell."""
        return len(self.columns) <= _MOST_WRITTEN and len(self.rows) <= _MOST_WRITTEN


AnyFigure = Figure | Heatmap


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
