"""Figures of an experiment's rows: accuracy by layer, and by anything that has a name."""

import json
from collections.abc import Sequence

import pandas as pd

from taskvectors.results.figures import STYLES, AnyFigure, Figure, ReferenceLine, Series, style_at
from taskvectors.results.record import OVER_TASKS

_MEAN = "Means over seeds have no interval drawn."


def by_layer(rows: pd.DataFrame, title: str, references: tuple[str, ...]) -> list[AnyFigure]:
    """Accuracy of vectors of one layer, a figure for each model and task.

    Args:
        rows: Rows of an experiment.
        title: What is shown.
        references: Methods without a layer, drawn as lines.
    """
    accuracies = rows[rows["measure"].eq("accuracy") & rows["task"].ne(OVER_TASKS)]
    figures: list[AnyFigure] = []
    for (model, task), part in accuracies.groupby(["model", "task"], sort=False):
        own = part.assign(layer=part["layers"].map(layer_of))
        own = own[own["layer"].notna() & own["strength"].eq(1.0) & own["is_control"].eq(False)]
        series = []
        for number, (method, points) in enumerate(own.groupby("method", sort=False)):
            means = points.groupby("layer")[["value", "low", "high"]].mean()
            is_single = len(means) == len(points)
            series.append(
                Series(
                    label=str(method),
                    x=tuple(map(float, means.index)),
                    y=tuple(means["value"]),
                    low=tuple(means["low"]) if is_single else (),
                    high=tuple(means["high"]) if is_single else (),
                    style=style_at(number),
                )
            )
        lines = [
            ReferenceLine(label=name, y=float(found["value"].mean()), style=STYLES[-1 - number])
            for number, name in enumerate(references)
            if len(found := part[part["method"].eq(name)])
        ]
        figures.append(
            Figure(
                name=f"by-layer-{_word(model)}-{_word(task)}",
                title=f"{title}: {task}, {model}",
                x_label="Layer of the vector",
                y_label="Accuracy (test)",
                series=tuple(series),
                references=tuple(lines),
                shares=True,
                caption=f"95 % intervals. {_MEAN}",
            )
        )
    return figures


def by_configuration(rows: pd.DataFrame, title: str, *, selected: bool = True) -> list[AnyFigure]:
    """Accuracy by what `configuration` says, a figure for each model; means over tasks and seeds.

    Args:
        rows: Rows of an experiment.
        title: What is shown.
        selected: Show what was chosen on validation alone.
    """
    kept = rows["measure"].eq("accuracy") & rows["task"].ne(OVER_TASKS) & rows["value"].notna()
    if selected:
        kept &= rows["selected"].eq(True)
    figures: list[AnyFigure] = []
    for model, part in rows[kept].groupby("model", sort=False):
        names = list(dict.fromkeys(part["configuration"]))
        methods = list(dict.fromkeys(part["method"]))
        series = []
        for number, method in enumerate(methods):
            own = part[part["method"].eq(method)]
            means = own.groupby("configuration", sort=False)[["value", "low", "high"]].mean()
            shift = 0.5 * ((number + 1) / (len(methods) + 1) - 0.5)
            is_single = len(means) == len(own)
            series.append(
                Series(
                    label=str(method),
                    x=tuple(names.index(name) + shift for name in means.index),
                    y=tuple(means["value"]),
                    low=tuple(means["low"]) if is_single else (),
                    high=tuple(means["high"]) if is_single else (),
                    style=style_at(number),
                    kind="point",
                )
            )
        figures.append(
            Figure(
                name=f"by-configuration-{_word(model)}",
                title=f"{title}: {model}",
                x_label="",
                y_label="Accuracy (test)",
                series=tuple(series),
                x_ticks=tuple((float(n), name or "-") for n, name in enumerate(names)),
                shares=True,
                caption="95 % intervals where there is one task and seed; else means.",
            )
        )
    return figures


def curves(
    rows: pd.DataFrame, name: str, title: str, *, x: str, y: str, labels: tuple[str, str, str]
) -> list[AnyFigure]:
    """A measure over a numeric column, a figure for each task, a line for each value of a column.

    Args:
        rows: Rows of an experiment.
        name: Short name of the figure.
        title: What is shown.
        x: Column of places.
        y: The measure.
        labels: Names of both axes, and the column that tells lines apart.
    """
    x_label, y_label, line = labels
    figures: list[AnyFigure] = []
    of_measure = rows[rows["measure"].eq(y) & rows[x].notna() & rows["task"].ne(OVER_TASKS)]
    for task, part in of_measure.groupby("task", sort=False):
        series = []
        for number, (label, points) in enumerate(part.groupby(line, sort=False)):
            means = points.groupby(x)[["value", "low", "high"]].mean()
            has_ends = len(means) == len(points) and bool(means["low"].notna().all())
            series.append(
                Series(
                    label=str(label),
                    x=tuple(map(float, means.index)),
                    y=tuple(None if pd.isna(value) else float(value) for value in means["value"]),
                    low=tuple(means["low"]) if has_ends else (),
                    high=tuple(means["high"]) if has_ends else (),
                    style=style_at(number),
                )
            )
        figures.append(
            Figure(
                name=f"{name}-{_word(task)}",
                title=f"{title}: {task}",
                x_label=x_label,
                y_label=y_label,
                series=tuple(series),
                x_ticks=_whole_ticks(sorted({place for one in series for place in one.x})),
                caption=f"95 % intervals where they are known. {_MEAN}",
            )
        )
    return figures


_MOST_TICKS = 18


def _whole_ticks(places: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Every place, where these are few whole numbers such as layers; else the drawing chooses."""
    if len(places) > _MOST_TICKS or not all(place.is_integer() for place in places):
        return ()
    return tuple((place, f"{place:g}") for place in places)


def layer_of(layers: str) -> float | None:
    """The number in a row's `layers`, where it has one layer; what lies below block 0 is at -1."""
    found = json.loads(layers)
    if len(found) != 1:
        return None
    return -1.0 if found[0] == "embed" else float(found[0])


def _word(text: object) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in str(text)).strip("-")
