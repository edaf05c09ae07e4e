"""Figures as interactive charts.

The chart carries no link, logo or address, so a page that holds it asks nothing of any server.
"""

import html
from typing import TYPE_CHECKING, Any

from taskvectors.errors import TaskVectorsError
from taskvectors.results.figures import (
    VERMILION,
    AnyFigure,
    Figure,
    Heatmap,
    ReferenceLine,
    Series,
    runs_without_gaps,
    span,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
_INK = {"light": "#22272e", "dark": "#dfe3e8"}
_FAINT = {"light": "#e3e6ea", "dark": "#333a43"}
_GROUND = {"light": "#ffffff", "dark": "#1a1f26"}
_HOLLOW_MARKERS = {
    "circle": "circle-open",
    "square": "square-open",
    "diamond": "diamond-open",
    "triangle-up": "triangle-up-open",
    "cross": "cross-open",
    "triangle-down": "triangle-down-open",
    "star": "star-open",
    "hexagon": "hexagon-open",
    "pentagon": "pentagon-open",
    "x": "x-open",
}


def draw_plotly(figure: AnyFigure, *, dark: bool = False) -> "go.Figure":
    """The figure as a plotly chart.

    Args:
        figure: What to draw.
        dark: Draw for a dark ground instead of a light one.

    Returns:
        A chart with a transparent ground and a legend below it.

    Raises:
        TaskVectorsError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise TaskVectorsError(
            "charts in HTML need plotly, which is not installed; pip install 'taskvectors[demo]'"
        ) from error
    theme = "dark" if dark else "light"
    if isinstance(figure, Heatmap):
        return go.Figure(data=[_cells(figure, theme)], layout=_heatmap_layout(figure, theme))
    traces: list[dict[str, Any]] = [_reference(line, figure, theme) for line in figure.references]
    traces += [_band(item, theme) for item in figure.series if item.kind == "line" and item.low]
    traces += [_trace(series, figure, theme) for series in figure.series]
    return go.Figure(data=traces, layout=_layout(figure, theme))


def plotly_script() -> str:
    """The source of plotly.js, to be embedded once in a page.

    Raises:
        TaskVectorsError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise TaskVectorsError(
            "charts in HTML need plotly, which is not installed; pip install 'taskvectors[demo]'"
        ) from error
    return str(get_plotlyjs())


def _reference(line: ReferenceLine, figure: Figure, theme: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(line.label, quote=False),
        "x": list(span(figure)),
        "y": [line.y, line.y],
        "line": {"color": getattr(line.style, theme), "dash": line.style.dash, "width": 1.8},
        "hoverinfo": "skip",
    }


def _band(series: Series, theme: str) -> dict[str, Any]:
    """Intervals as closed shapes, one for each stretch without a gap."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for places, lows, highs in runs_without_gaps(series):
        xs += [*places, *reversed(places), None]
        ys += [*highs, *reversed(lows), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "fill": "toself",
        "fillcolor": _faded(getattr(series.style, theme), 0.16 if theme == "light" else 0.22),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": html.escape(series.label, quote=False),
    }


def _trace(series: Series, figure: Figure, theme: str) -> dict[str, Any]:
    color = getattr(series.style, theme)
    is_point = series.kind == "point"
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers" if is_point else "lines+markers" if series.has_markers else "lines",
        "name": html.escape(series.label, quote=False),
        "legendgroup": html.escape(series.label, quote=False),
        "x": list(series.x),
        "y": list(series.y),
        "line": {"color": color, "dash": series.style.dash, "width": 2.2},
        "marker": {
            "color": color,
            "size": 13 if is_point and not series.is_crowded else 7,
            "symbol": _symbols(series),
            "line": {"width": 1.6, "color": _GROUND[theme] if is_point else color},
        },
        "hovertemplate": _hover(series, figure),
    }
    if series.low:
        trace["customdata"] = [list(ends) for ends in zip(series.low, series.high, strict=True)]
    if is_point and series.low:
        trace["error_y"] = _error_bars(series, color)
    return trace


def _symbols(series: Series) -> list[str]:
    marker = series.style.marker
    return [_HOLLOW_MARKERS[marker] if x in series.open_at else marker for x in series.x]


def _error_bars(series: Series, color: str) -> dict[str, Any]:
    lengths: list[tuple[float, float]] = []
    for y, low, high in zip(series.y, series.low, series.high, strict=True):
        if y is None or low is None or high is None:
            lengths.append((0, 0))
        else:
            lengths.append((y - low, high - y))
    return {
        "type": "data",
        "symmetric": False,
        "array": [above for _, above in lengths],
        "arrayminus": [below for below, _ in lengths],
        "color": color,
        "thickness": 2.2,
        "width": 7,
    }


def _hover(series: Series, figure: Figure) -> str:
    form = ":.1%" if figure.shares else ":.4g"
    interval = f" [%{{customdata[0]{form}}}, %{{customdata[1]{form}}}]" if series.low else ""
    value = f"%{{y{form}}}{interval}"
    place = f"{html.escape(figure.x_label, quote=False)}: %{{x}}"
    return f"{html.escape(series.label, quote=False)}<br>{place}<br>{value}<extra></extra>"


def _layout(figure: Figure, theme: str) -> dict[str, Any]:
    axis = {
        "gridcolor": _FAINT[theme],
        "linecolor": _FAINT[theme],
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": _FAINT[theme],
        "automargin": True,
        "tickangle": 0,
        "fixedrange": True,  # a page scrolls over the chart instead of zooming it
    }
    x_axis = axis | {"title": _axis_title(figure.x_label), "showgrid": False}
    x_axis["range"] = list(span(figure))
    x_axis["ticklabeloverflow"] = "allow"  # else a long name at an end is an error of the drawing
    if figure.has_long_ticks:
        x_axis["tickangle"] = 35
    if figure.x_ticks:
        x_axis["tickvals"] = [place for place, _ in figure.x_ticks]
        x_axis["ticktext"] = _escaped(tuple(text for _, text in figure.x_ticks))
    y_axis = axis | {"title": _axis_title(figure.y_label)}
    if figure.shares:
        y_axis |= {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.2}
    return _ground(theme) | {
        "xaxis": x_axis,
        "yaxis": y_axis,
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    }


def _ground(theme: str) -> dict[str, Any]:
    """What all charts have in common."""
    return {
        "font": {"family": _FONT, "size": 13, "color": _INK[theme]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": _GROUND[theme], "font": {"color": _INK[theme]}},
    }


def _cells(figure: Heatmap, theme: str) -> dict[str, Any]:
    low, high = figure.ends
    steps = len(figure.colours) - 1
    form = ".0%" if figure.shares else ".3g"
    columns, rows = (
        [html.escape(text, quote=False) for text in names]
        for names in (figure.columns, figure.rows)
    )
    cell: dict[str, Any] = {
        "type": "heatmap",
        # names may repeat or look like numbers, so cells stand at whole numbers
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "z": [list(row) for row in figure.values],
        "customdata": [[f"{row}, {column}" for column in columns] for row in rows],
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / steps, colour] for i, colour in enumerate(figure.colours)],
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": f"%{{customdata}}<br>%{{z:{form}}}<extra></extra>",
        "colorbar": {
            "title": {"text": html.escape(figure.value_label, quote=False), "side": "right"},
            "thickness": 12,
            "outlinecolor": _FAINT[theme],
            "tickformat": ".0%" if figure.shares else "",
        },
    }
    if figure.is_written_out:
        cell |= {"texttemplate": f"%{{z:{form}}}", "textfont": {"size": 11}}
    return cell


def _heatmap_layout(figure: Heatmap, theme: str) -> dict[str, Any]:
    def axis(label: str, names: tuple[str, ...]) -> dict[str, Any]:
        return {
            "title": _axis_title(label),
            "tickvals": list(range(len(names))),
            "ticktext": _escaped(names),
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        }

    frames = [
        {
            "type": "rect",
            "x0": column - 0.5,
            "x1": column + 0.5,
            "y0": row - 0.5,
            "y1": row + 0.5,
            "line": {"color": VERMILION.light, "width": 2.5},
        }
        for row, column in figure.marked
    ]
    y_axis = axis(figure.y_label, figure.rows) | {"autorange": "reversed"}
    return _ground(theme) | {
        "xaxis": axis(figure.x_label, figure.columns),
        "yaxis": y_axis,
        "shapes": frames,
        "plot_bgcolor": _FAINT[theme],
    }


def _escaped(names: tuple[str, ...]) -> list[str]:
    return [html.escape(name, quote=False).replace("\n", "<br>") for name in names]


def _axis_title(text: str) -> dict[str, Any]:
    return {"text": html.escape(text, quote=False), "standoff": 8, "font": {"size": 13}}


def _faded(color: str, opacity: float) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
