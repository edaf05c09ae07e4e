"""The figures of a comparison: accuracy by layer, and how learning went.

A curve by layer shows the test split only where every layer was tested; otherwise it shows the
validation split that layers are chosen on. Captions are fixed sentences.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal

import pandas as pd

from taskvectors.format import percent, percent_range, plural
from taskvectors.report.metadata import method_name
from taskvectors.report.summary import BASELINES, SUBJECTS, method_summary, of_seeds
from taskvectors.results.figures import (
    GREEN,
    GREY,
    STYLES,
    Figure,
    ReferenceLine,
    Series,
    Style,
    style_at,
)
from taskvectors.results.pivot import ComparisonRow, comparison_rows
from taskvectors.results.record import Record

Split = Literal["test", "validation"]

EMBED_PLACE = -1.0
"""Where `embed`, the input of block 0, stands on an axis of layers."""

MOST_CURVES = 5
_MOST_BESIDE_EMBED = 8
_SWEEP_STYLES = (STYLES[0], STYLES[1], STYLES[3])
"""Styles of methods; the other two are those of the reference lines."""
_CAPTIONS = {
    "validation": "Curves: validation items, on which the layer is chosen; the chosen layer alone "
    "was tested, and stands as a single point. ",
    "test": "Curves: test items; the layer itself is chosen on validation items. ",
}
_INTERVALS = (
    "Bands and bars: 95 % intervals, or the range over seeds where there are several. Hollow "
    "markers: still improving when the steps ran out. Vectors at several layers at once are in the "
    "table only."
)
_LEARNING = "At most five layers of one seed are drawn, the chosen one among them."

Figures = tuple[Figure, ...]


def accuracy_by_run(runs: Mapping[str, Record]) -> Figure:
    """What each method of several comparisons reached, the runs beside each other.

    Args:
        runs: Comparisons by the names of their runs.
    """
    rows = {name: comparison_rows(record.frame) for name, record in runs.items()}
    known = dict.fromkeys(row.method for one in rows.values() for row in one)
    series = []
    for number, (name, found) in enumerate(rows.items()):
        aside = (number - (len(rows) - 1) / 2) * min(0.2, 0.8 / len(rows))
        reached = {at: method_summary(found, method) for at, method in enumerate(known)}
        measured = {at: one for at, one in reached.items() if one is not None}
        series.append(
            Series(
                label=name,
                x=tuple(at + aside for at in measured),
                y=tuple(one.accuracy for one in measured.values()),
                low=tuple(one.low for one in measured.values()),
                high=tuple(one.high for one in measured.values()),
                style=style_at(number),
                kind="point",
            )
        )
    return Figure(
        name="accuracy-by-run",
        title="Accuracy of each method, by run",
        x_label="",
        y_label="Accuracy on test items",
        series=tuple(series),
        x_ticks=tuple((float(at), _title(runs, method)) for at, method in enumerate(known)),
        shares=True,
        caption="What was chosen on validation items, tested once. Bars: 95 % intervals, or the "
        "range over seeds where there are several.",
    )


def _title(runs: Mapping[str, Record], method: str) -> str:
    titles = [method_name(record.metadata, method) for record in runs.values()]
    return next((title for title in titles if title != method), method)


def comparison_figures(record: Record, rows: Sequence[ComparisonRow]) -> tuple[Figures, Figures]:
    """Every figure that a comparison has the numbers for: by layer, and of learning."""
    by_layer = accuracy_by_layer(record, rows)
    learning = (learning_curves(record, rows), validation_curves(record, rows))
    return (
        () if by_layer is None else (by_layer,),
        tuple(figure for figure in learning if figure is not None),
    )


def accuracy_by_layer(record: Record, rows: Sequence[ComparisonRow]) -> Figure | None:
    """Accuracy of each vector method against the layer it is added after.

    Returns:
        The figure, or nothing where no method was measured at two layers.
    """
    sweeps = _sweeps(rows)
    if not sweeps:
        return None
    shown = [row for sweep in sweeps.values() for row in sweep]
    split: Split = "test" if all(row.accuracy is not None for row in shown) else "validation"
    series: list[Series] = []
    for index, (method, sweep) in enumerate(sweeps.items()):
        style = _SWEEP_STYLES[index % len(_SWEEP_STYLES)]
        series.append(_curve(record, sweep, split, style))
        chosen = _chosen_point(record, rows, method, style)
        if chosen is not None:
            series.append(chosen)
    return Figure(
        name="accuracy-by-layer",
        title="Accuracy by layer",
        x_label="Layer the vector is added after",
        y_label=f"Accuracy on {split} items",
        series=tuple(series),
        references=_references(record, rows, split),
        x_ticks=_layer_ticks(place for item in series for place in item.x),
        shares=True,
        caption=_CAPTIONS[split] + _INTERVALS,
    )


def learning_curves(record: Record, rows: Sequence[ComparisonRow]) -> Figure | None:
    """The training loss of the learned vectors by step, for a few layers."""
    return _curves_by_step(
        record, rows, column="loss", name="learning-curves", title="Loss while learning",
        y_label="Loss",
    )  # fmt: skip


def validation_curves(record: Record, rows: Sequence[ComparisonRow]) -> Figure | None:
    """The validation accuracy of the learned vectors by step, for a few layers."""
    return _curves_by_step(
        record, rows, column="validation_accuracy", name="validation-curves",
        title="Validation accuracy while learning", y_label="Accuracy on validation items",
    )  # fmt: skip


def _sweeps(rows: Sequence[ComparisonRow]) -> dict[str, list[ComparisonRow]]:
    """Rows at one layer each, by method, for methods measured at two layers or more.

    Of several strengths at one layer, the one that validation chose.
    """
    best: dict[tuple[str, int | str, int | None], ComparisonRow] = {}
    for row in of_seeds(rows):
        is_vector = not row.is_control and row.method not in BASELINES and row.preset is None
        measured = row.accuracy is not None or row.validation_accuracy is not None
        if is_vector and measured and not row.error and len(row.layers) == 1:
            held = best.setdefault((row.method, row.layers[0], row.seed), row)
            if _validated(row) > _validated(held):
                best[row.method, row.layers[0], row.seed] = row
    by_method: dict[str, list[ComparisonRow]] = {}
    for row in best.values():
        by_method.setdefault(row.method, []).append(row)
    order = sorted(by_method, key=lambda name: (name not in SUBJECTS, name != SUBJECTS[0]))
    return {
        method: by_method[method]
        for method in order
        if len({row.layers[0] for row in by_method[method]}) > 1
    }


def _validated(row: ComparisonRow) -> tuple[bool, float]:
    return row.selected, -1.0 if row.validation_accuracy is None else row.validation_accuracy


def _place(layer: int | str) -> float:
    return EMBED_PLACE if layer == "embed" else float(layer)


def _curve(record: Record, rows: Sequence[ComparisonRow], split: Split, style: Style) -> Series:
    by_place: dict[float, list[ComparisonRow]] = {}
    for row in rows:
        by_place.setdefault(_place(row.layers[0]), []).append(row)
    places = sorted(by_place)
    points = [_point(record, by_place[place], split) for place in places]
    has_intervals = any(None not in ends for _, ends in points)
    return Series(
        label=f"{method_name(record.metadata, rows[0].method)}, {split}",
        x=tuple(places),
        y=tuple(middle for middle, _ in points),
        low=tuple(ends[0] for _, ends in points) if has_intervals else (),
        high=tuple(ends[1] for _, ends in points) if has_intervals else (),
        style=style,
        open_at=tuple(p for p in places if any(r.converged is False for r in by_place[p])),
    )


def _point(
    record: Record, rows: Sequence[ComparisonRow], split: Split
) -> tuple[float | None, tuple[float | None, float | None]]:
    """Mean over seeds with their range, or one seed's share with its interval."""
    shares = [row.accuracy if split == "test" else row.validation_accuracy for row in rows]
    there = [share for share in shares if share is not None]
    if not there:
        return None, (None, None)
    if len(there) > 1:
        return fmean(there), (min(there), max(there))
    if split == "test":
        return there[0], (rows[0].ci_low, rows[0].ci_high)
    n = int(record.metadata.get("n_validation") or 0)
    if n == 0:
        return there[0], (None, None)
    from taskvectors.evaluate.statistics import wilson_interval  # loads torch: only when needed

    return there[0], wilson_interval(round(there[0] * n), n)


def _chosen_point(
    record: Record, rows: Sequence[ComparisonRow], method: str, style: Style
) -> Series | None:
    chosen = method_summary(rows, method)
    if chosen is None or len({tuple(row.layers) for row in chosen.rows}) > 1:
        return None
    if len(chosen.first.layers) != 1:
        return None
    interval = percent_range(chosen.low, chosen.high)
    label = (
        f"{method_name(record.metadata, method)}, chosen layer, test: {percent(chosen.accuracy)}"
    )
    return Series(
        label=label + (f" [{interval}]" if interval else ""),
        x=(_place(chosen.first.layers[0]),),
        y=(chosen.accuracy,),
        low=(chosen.low,),
        high=(chosen.high,),
        style=style,
        kind="point",
    )


def _references(
    record: Record, rows: Sequence[ComparisonRow], split: Split
) -> tuple[ReferenceLine, ...]:
    lines = []
    for method, style in (("icl", GREEN), ("zero-shot", GREY)):
        found = method_summary(rows, method)
        if found is None:
            continue
        validated = [
            row.validation_accuracy for row in found.rows if row.validation_accuracy is not None
        ]
        on_validation = split == "validation" and len(validated) == len(found.rows)
        share = fmean(validated) if on_validation else found.accuracy
        name = method_name(record.metadata, method)
        if method == "icl" and found.first.shots:
            name = plural(found.first.shots, "demonstration").capitalize()
        shown = "validation" if on_validation else "test"
        lines.append(
            ReferenceLine(label=f"{name}, {shown}: {percent(share)}", y=share, style=style)
        )
    return tuple(lines)


def _layer_ticks(places: Iterable[float]) -> tuple[tuple[float, str], ...]:
    """Every layer where there is room, else every second, fourth, ... one; `embed` by name."""
    found = sorted(set(places))
    if EMBED_PLACE in found and found[-1] > _MOST_BESIDE_EMBED:
        found = [place for place in found if place != 0]  # the name needs the room
    step = 1
    while (found[-1] - max(found[0], 0)) / step > 18:
        step *= 2
    return tuple(
        (place, "embed" if place == EMBED_PLACE else f"{place:g}")
        for place in found
        if place == EMBED_PLACE or place % step == 0
    )


def _curves_by_step(
    record: Record,
    rows: Sequence[ComparisonRow],
    *,
    column: str,
    name: str,
    title: str,
    y_label: str,
) -> Figure | None:
    logged = record.curves
    if logged.empty or not {"step", "layer", column} <= set(logged.columns):
        return None
    logged = _one_learner(logged.dropna(subset=["step", "layer", column]))
    logged = logged.assign(layer=[_layer_name(layer) for layer in logged["layer"]])
    counts = logged.groupby("layer")["step"].nunique()
    layers = sorted((str(layer) for layer in counts[counts > 1].index), key=_by_depth)
    chosen = method_summary(rows, "learned")
    wanted = _layer_name(list(chosen.first.layers)) if chosen else None
    shown = _spread(layers, wanted)
    if not shown:
        return None
    return Figure(
        name=name,
        title=title,
        x_label="Step",
        y_label=y_label,
        series=tuple(
            _step_curve(logged[logged["layer"] == layer], column, layer, index, layer == wanted)
            for index, layer in enumerate(shown)
        ),
        shares=column == "validation_accuracy",
        caption=_LEARNING,
    )


def _one_learner(logged: pd.DataFrame) -> pd.DataFrame:
    """The log of one method and one seed."""
    if "method" in logged.columns and (logged["method"] == "learned").any():
        logged = logged[logged["method"] == "learned"]
    if "seed" in logged.columns and logged["seed"].nunique() > 1:
        logged = logged[logged["seed"] == logged["seed"].min()]
    return logged


def _layer_name(layer: object) -> str:
    """A layer, or several that hold one vector, as text: `9`, `embed`, `4, 9`."""
    if isinstance(layer, str) and layer.startswith("["):
        layer = json.loads(layer)
    if isinstance(layer, list | tuple):
        return ", ".join(_layer_name(item) for item in layer)
    return f"{layer:g}" if isinstance(layer, int | float) else str(layer)


def _by_depth(layer: str) -> tuple[float, ...]:
    parts = layer.split(", ")
    return tuple(float(part) if part.isdigit() else EMBED_PLACE for part in parts)


def _spread(layers: Sequence[str], wanted: str | None) -> list[str]:
    """At most five layers spread over the depth, the wanted one among them."""
    if len(layers) <= MOST_CURVES:
        return list(layers)
    step = (len(layers) - 1) / (MOST_CURVES - 1)
    picked = [round(index * step) for index in range(MOST_CURVES)]
    if wanted in layers:
        place = layers.index(wanted)
        nearest = min(range(MOST_CURVES), key=lambda index: abs(picked[index] - place))
        picked[nearest] = place
    return [layers[index] for index in sorted(set(picked))]


def _step_curve(
    logged: pd.DataFrame, column: str, layer: str, index: int, is_chosen: bool
) -> Series:
    by_step = logged.groupby("step")[column].mean().sort_index()
    return Series(
        label=f"Layer {layer}{', chosen' if is_chosen else ''}",
        x=tuple(float(step) for step in by_step.index),
        y=tuple(float(value) for value in by_step),
        style=style_at(index),
    )
