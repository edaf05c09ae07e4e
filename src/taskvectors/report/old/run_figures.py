"""The figures of a run: accuracy by layer, and how learning went.

A curve by layer shows the test split only where every layer was tested; otherwise it shows the
validation split that layers are chosen on, and says so.
"""

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Literal

import pandas as pd

from taskvectors.format import percent, percent_range, plural
from taskvectors.report.old.run import BASELINES, Measurement, Run
from taskvectors.report.old.standing import SUBJECTS, standing
from taskvectors.report.old.wording import method_name
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

Split = Literal["test", "validation"]

EMBED_PLACE = -1.0
"""Where `embed`, the input of block 0, stands on an axis of layers."""

MOST_CURVES = 5
_MOST_BESIDE_EMBED = 8
_SWEEP_STYLES = (STYLES[0], STYLES[1], STYLES[3])
"""Styles of methods; the other two are those of the reference lines."""


def run_figures(run: Run) -> tuple[Figure, ...]:
    """Every figure that a run has the numbers for, in the order of the report."""
    made = (accuracy_by_layer(run), learning_curves(run), validation_curves(run))
    return tuple(figure for figure in made if figure is not None)


def accuracy_by_layer(run: Run) -> Figure | None:
    """Accuracy of each vector method against the layer it is added after.

    Args:
        run: A finished run.

    Returns:
        The figure, or nothing where no method was measured at two layers.
    """
    sweeps = _sweeps(run)
    if not sweeps:
        return None
    rows = [row for sweep in sweeps.values() for row in sweep]
    split: Split = "test" if all(row.accuracy is not None for row in rows) else "validation"
    series: list[Series] = []
    for index, (method, sweep) in enumerate(sweeps.items()):
        style = _SWEEP_STYLES[index % len(_SWEEP_STYLES)]
        series.append(_curve(run, sweep, split, style))
        chosen = _chosen_point(run, method, style)
        if chosen is not None:
            series.append(chosen)
    return Figure(
        name="accuracy-by-layer",
        title="Accuracy by layer",
        x_label="Layer the vector is added after",
        y_label=f"Accuracy on {split} items",
        series=tuple(series),
        references=_references(run, split),
        x_ticks=_layer_ticks(place for item in series for place in item.x),
        shares=True,
        caption=_layer_caption(run, rows, split),
    )


def learning_curves(run: Run) -> Figure | None:
    """The training loss of the learned vectors by step, for a few layers."""
    return _curves_by_step(
        run, column="loss", name="learning-curves", title="Loss while learning", y_label="Loss"
    )


def validation_curves(run: Run) -> Figure | None:
    """The validation accuracy of the learned vectors by step, for a few layers."""
    return _curves_by_step(
        run,
        column="validation_accuracy",
        name="validation-curves",
        title="Validation accuracy while learning",
        y_label="Accuracy on validation items",
    )


def _sweeps(run: Run) -> dict[str, list[Measurement]]:
    """Rows at one layer each, by method, for methods measured at two layers or more."""
    by_method: dict[str, list[Measurement]] = {}
    for row in run.measurements:
        is_vector = not row.is_control and row.method not in BASELINES
        measured = row.accuracy is not None or row.validation_accuracy is not None
        if is_vector and measured and not row.error and len(row.layers) == 1:
            by_method.setdefault(row.method, []).append(row)
    order = sorted(by_method, key=lambda name: (name not in SUBJECTS, name != SUBJECTS[0]))
    return {
        method: by_method[method]
        for method in order
        if len({row.layers for row in by_method[method]}) > 1
    }


def _place(layer: int | str) -> float:
    return EMBED_PLACE if layer == "embed" else float(layer)


def _curve(run: Run, rows: Sequence[Measurement], split: Split, style: Style) -> Series:
    by_place: dict[float, list[Measurement]] = {}
    for row in rows:
        by_place.setdefault(_place(row.layers[0]), []).append(row)
    places = sorted(by_place)
    points = [_point(run, by_place[place], split) for place in places]
    has_intervals = any(None not in ends for _, ends in points)
    return Series(
        label=f"{method_name(rows[0].method)}, {split}",
        x=tuple(places),
        y=tuple(middle for middle, _ in points),
        low=tuple(ends[0] for _, ends in points) if has_intervals else (),
        high=tuple(ends[1] for _, ends in points) if has_intervals else (),
        style=style,
        open_at=tuple(p for p in places if any(r.converged is False for r in by_place[p])),
    )


def _point(
    run: Run, rows: Sequence[Measurement], split: Split
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
    n = int(run.config.get("n_validation") or 0)
    if n == 0:
        return there[0], (None, None)
    from taskvectors.evaluate.statistics import wilson_interval  # loads torch: only when needed

    return there[0], wilson_interval(round(there[0] * n), n)


def _chosen_point(run: Run, method: str, style: Style) -> Series | None:
    chosen = standing(run, method)
    if chosen is None or len({row.layers for row in chosen.rows}) > 1:
        return None
    if len(chosen.first.layers) != 1:
        return None
    interval = percent_range(chosen.low, chosen.high)
    label = f"{method_name(method)}, chosen layer, test: {percent(chosen.accuracy)}"
    return Series(
        label=label + (f" [{interval}]" if interval else ""),
        x=(_place(chosen.first.layers[0]),),
        y=(chosen.accuracy,),
        low=(chosen.low,),
        high=(chosen.high,),
        style=style,
        kind="point",
    )


def _references(run: Run, split: Split) -> tuple[ReferenceLine, ...]:
    lines = []
    for method, style in (("icl", GREEN), ("zero-shot", GREY)):
        found = standing(run, method)
        if found is None:
            continue
        validated = [
            row.validation_accuracy for row in found.rows if row.validation_accuracy is not None
        ]
        on_validation = split == "validation" and len(validated) == len(found.rows)
        share = fmean(validated) if on_validation else found.accuracy
        name = method_name(method)
        if method == "icl" and found.first.shots is not None:
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


def _layer_caption(run: Run, rows: Sequence[Measurement], split: Split) -> str:
    parts = []
    if split == "validation":
        n = run.config.get("n_validation")
        parts.append(
            f"Curves show the {f'{n} ' if n else ''}validation items that the layer is chosen on; "
            "the chosen layer alone was tested, and stands as a single point with its bar."
        )
    else:
        parts.append("Every layer was tested; the layer itself is chosen on validation items.")
    seeds = {row.seed for row in rows}
    parts.append(
        f"Curves are means of {plural(len(seeds), 'seed')}; bands reach from the lowest to the "
        "highest."
        if len(seeds) > 1
        else "Bands and bars are 95 % intervals."
    )
    if any(row.converged is False for row in rows):
        parts.append("Hollow markers: still improving when the steps ran out.")
    several = [row for row in run.measurements if len(row.layers) > 1 and not row.is_control]
    if several:
        parts.append("Vectors at several layers at once are in the table only.")
    return " ".join(parts)


def _curves_by_step(run: Run, *, column: str, name: str, title: str, y_label: str) -> Figure | None:
    logged = run.metrics
    if logged.empty or not {"step", "layer", column} <= set(logged.columns):
        return None
    logged, scope = _one_learner(logged.dropna(subset=["step", "layer", column]))
    logged = logged.assign(layer=[_layer_name(layer) for layer in logged["layer"]])
    counts = logged.groupby("layer")["step"].nunique()
    layers = sorted((str(layer) for layer in counts[counts > 1].index), key=_by_depth)
    chosen = standing(run, "learned")
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
        caption=f"{len(shown)} of the {len(layers)} layers are drawn{scope}."
        if len(shown) < len(layers)
        else "",
    )


def _one_learner(logged: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The log of one method and one seed, and what was left aside, in words."""
    scope = ""
    if "method" in logged.columns and (logged["method"] == "learned").any():
        logged = logged[logged["method"] == "learned"]
    if "seed" in logged.columns and logged["seed"].nunique() > 1:
        seed = logged["seed"].min()
        logged, scope = logged[logged["seed"] == seed], f", seed {int(seed)} alone"
    return logged, scope


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
