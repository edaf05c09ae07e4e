"""A chart in words, for readers who do not see it."""

from taskvectors.format import percent
from taskvectors.results.figures import AnyFigure, Heatmap


def alternative_text(figure: AnyFigure) -> str:
    """The chart in words, for readers who do not see it."""
    if isinstance(figure, Heatmap):
        return _of_heatmap(figure)
    parts = [f"{figure.title}. {figure.y_label} against {figure.x_label.lower()}."]
    ticks = {place: text.replace("\n", " ") for place, text in figure.x_ticks}
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


def _of_heatmap(figure: Heatmap) -> str:
    cells = [
        (value, row, column)
        for row, values in zip(figure.rows, figure.values, strict=True)
        for column, value in zip(figure.columns, values, strict=True)
        if value is not None
    ]
    parts = [
        f"{figure.title}. {figure.value_label} by {figure.y_label.lower()} and "
        f"{figure.x_label.lower()}."
    ]
    for word, at in (("Highest", max(cells, default=None)), ("Lowest", min(cells, default=None))):
        if at is not None:
            parts.append(f"{word}: {_value(at[0], figure)} at {at[1]}, {at[2]}.")
    if figure.marked:
        places = ", ".join(f"{figure.rows[r]}, {figure.columns[c]}" for r, c in figure.marked)
        parts.append(f"{figure.mark_label}: {places}.")
    return " ".join(parts)


def _value(y: float, figure: AnyFigure) -> str:
    return percent(y) if figure.shares else f"{y:.3g}"
