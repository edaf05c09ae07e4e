"""Figures as files for papers and pages: PNG, SVG, PDF.

Uses matplotlib's objects and never its global state, so that a user's own plots are left alone.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.errors import TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.results.figures import (
    VERMILION,
    AnyFigure,
    Dash,
    Figure,
    Heatmap,
    Marker,
    Series,
    span,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_INK = "#22272e"
_FAINT = "#d7dbe0"
_DASHES: dict[Dash, str | tuple[float, tuple[float, ...]]] = {
    "solid": "-",
    "dash": (0, (5, 2)),
    "dashdot": (0, (5, 2, 1, 2)),
    "dot": (0, (1, 1.6)),
    "longdash": (0, (9, 3)),
}
_MARKERS: dict[Marker, str] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "triangle-down": "v",
    "star": "*",
    "hexagon": "h",
    "pentagon": "p",
    "x": "X",
}
_LONGEST_FOR_TWO_COLUMNS = 54
_TITLE_LETTERS = 54
"""In one line of a title."""
_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "taskvectors",  # the same figure gives the same file
}


def draw_matplotlib(figure: AnyFigure, path: Path) -> Path:
    """The figure as a file, written whole or not at all.

    Args:
        figure: What to draw.
        path: Where to; its ending (`.png`, `.svg`, `.pdf`) decides the form.

    Returns:
        The path.

    Raises:
        TaskVectorsError: matplotlib is not installed, or the ending is not known to it.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise TaskVectorsError(
            "figures as files need matplotlib, which is not installed; "
            "pip install 'taskvectors[plots]'"
        ) from error
    form = path.suffix.removeprefix(".").lower()
    with mpl.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(7.2, 4.6), layout="constrained")
        if form not in canvas.canvas.get_supported_filetypes():
            raise TaskVectorsError(
                f"{path} ends in {path.suffix!r}, expected .png, .svg or .pdf; rename it"
            )
        axes = canvas.add_subplot()
        if isinstance(figure, Heatmap):
            _draw_heatmap(figure, axes, canvas)
        else:
            _draw(figure, axes)
            _place_legend(figure, axes, canvas)
        metadata = {"Date": None} if form == "svg" else None
        write_whole(
            path,
            lambda partial: canvas.savefig(partial, format=form, dpi=200, metadata=metadata),
        )
    return path


def _place_legend(figure: Figure, axes: "Axes", canvas: "Canvas") -> None:
    """A legend below the chart, in the order of the description."""
    handles, labels = axes.get_legend_handles_labels()
    drawn = dict(zip(labels, handles, strict=True))
    wanted = [_literal(series.label) for series in figure.series]
    wanted += [_literal(line.label) for line in figure.references]
    canvas.legend(
        [drawn[label] for label in wanted],
        wanted,
        loc="outside lower center",
        ncols=2 if max(map(len, wanted), default=0) <= _LONGEST_FOR_TWO_COLUMNS else 1,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.5,
    )


def _draw(figure: Figure, axes: "Axes") -> None:
    for series in figure.series:
        if series.kind == "point":
            _draw_points(series, axes)
        else:
            _draw_line(series, axes)
    for line in figure.references:
        axes.axhline(
            line.y,
            color=line.style.light,
            linestyle=_DASHES[line.style.dash],
            linewidth=1.5,
            zorder=1.5,
            label=_literal(line.label),
        )
    axes.set_title(_title(figure.title), loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(_literal(figure.x_label))
    axes.set_ylabel(_literal(figure.y_label))
    axes.set_xlim(*span(figure))
    if figure.x_ticks:
        axes.set_xticks(
            [place for place, _ in figure.x_ticks],
            [_literal(text) for _, text in figure.x_ticks],
            rotation=35 if figure.has_long_ticks else 0,
            ha="right" if figure.has_long_ticks else "center",
        )
    if figure.shares:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.grid(axis="y", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_line(series: Series, axes: "Axes") -> None:
    color = series.style.light
    values = [float("nan") if y is None else y for y in series.y]
    if series.low:
        lows = [float("nan") if y is None else y for y in series.low]
        highs = [float("nan") if y is None else y for y in series.high]
        axes.fill_between(series.x, lows, highs, color=color, alpha=0.15, linewidth=0)
    axes.plot(
        series.x,
        values,
        color=color,
        linestyle=_DASHES[series.style.dash],
        linewidth=1.8,
        marker=_MARKERS[series.style.marker] if series.has_markers else None,
        markersize=5,
        label=_literal(series.label),
    )
    hollow = [(x, y) for x, y in zip(series.x, values, strict=True) if x in series.open_at]
    if hollow:
        axes.plot(
            *zip(*hollow, strict=True),
            linestyle="",
            marker=_MARKERS[series.style.marker],
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=color,
        )


def _draw_points(series: Series, axes: "Axes") -> None:
    known = [
        (x, y, low, high)
        for x, y, low, high in zip(
            series.x,
            series.y,
            series.low or (None,) * len(series.x),
            series.high or (None,) * len(series.x),
            strict=True,
        )
        if y is not None
    ]
    color, is_crowded = series.style.light, series.is_crowded
    # about the middle of the interval: one from a bootstrap need not hold the value itself
    ends = [(x, low, high) for x, _, low, high in known if low is not None and high is not None]
    axes.errorbar(
        [x for x, *_ in ends],
        [(low + high) / 2 for _, low, high in ends],
        yerr=[(high - low) / 2 for _, low, high in ends],
        fmt="none",
        color=color,
        capsize=4,
        linewidth=1.8,
        zorder=5,
    )
    axes.plot(
        [x for x, *_ in known],
        [y for _, y, *_ in known],
        linestyle="",
        marker=_MARKERS[series.style.marker],
        markersize=7 if is_crowded else 10,
        markeredgewidth=0.5 if is_crowded else 1.0,  # more leaves nothing of a small cross
        markeredgecolor="white",
        color=color,
        label=_literal(series.label),
        zorder=6,
    )


def _draw_heatmap(figure: Heatmap, axes: "Axes", canvas: "Canvas") -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter

    low, high = figure.ends
    axes.set_facecolor(_FAINT)  # what a cell without a value shows
    colours = LinearSegmentedColormap.from_list(figure.scale, list(figure.colours))
    cells = [[float("nan") if v is None else v for v in row] for row in figure.values]
    image = axes.imshow(cells, cmap=colours, vmin=low, vmax=high, aspect="auto")
    if figure.is_written_out:
        for row, values in enumerate(figure.values):
            for column, value in enumerate(values):
                if value is not None:
                    red, green, blue, _ = colours((value - low) / (high - low))
                    is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                    text = f"{100 * value:.0f}%" if figure.shares else f"{value:.2g}"
                    ink = "white" if is_dark else _INK
                    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    for row, column in figure.marked:
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False)
        frame.set(edgecolor=VERMILION.light, linewidth=2, zorder=3)
        axes.add_patch(frame)
    axes.set_title(_title(figure.title), loc="left", fontsize=12, fontweight="bold")
    marks = f"\nframed: {figure.mark_label}" if figure.marked else ""
    axes.set_xlabel(_literal(figure.x_label + marks))
    axes.set_ylabel(_literal(figure.y_label))
    slanted = max(map(len, figure.columns), default=0) > 4
    axes.set_xticks(
        range(len(figure.columns)),
        [_literal(name) for name in figure.columns],
        rotation=45 if slanted else 0,
        ha="right" if slanted else "center",
    )
    axes.set_yticks(range(len(figure.rows)), [_literal(name) for name in figure.rows])
    axes.spines[:].set_visible(False)
    shares = FuncFormatter(lambda share, _: f"{100 * share:.0f}%") if figure.shares else None
    canvas.colorbar(image, ax=axes, label=_literal(figure.value_label), format=shares)


def _title(text: str) -> str:
    """A title in lines that the figure is wide enough for."""
    return _literal(textwrap.fill(text, _TITLE_LETTERS))


def _literal(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
