"""Where a vector emerges by itself: many small learners without the TVP-loss, and a boundary."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from taskvectors.experiments.catalog.shared.learner_groups import cost
from taskvectors.experiments.catalog.shared.learner_runs import config_of, trained
from taskvectors.experiments.experiment import (
    TVP_PAPER,
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.explain.shared.state_geometry import logistic_regression
from taskvectors.learners import Learner, VariantsConfig
from taskvectors.learners.family import HELD_OUT
from taskvectors.learners.measures import measure
from taskvectors.results import Measurement
from taskvectors.results.drawing import curves
from taskvectors.results.figures import AnyFigure, Figure
from taskvectors.results.learners import measurement_of, of_variants

_N_TASKS = {
    "offset": (2, 4, 8, None),
    "linear": (2, 8, 32, 128, 512, 4096, None),
}
"""Tasks that are trained on; None is all of them: 10 of `offset`, infinitely many of `linear`."""
_FORMATS = ("xzy", "zxy", "xzyd")
_BODIES = ("gpt2", "llama")
_DEPTHS, _WIDTHS = (2, 3, 4, 6), (32, 64, 128)
_LENGTHS = (0.25, 0.5, 1.0)
"""Lengths of training, as shares of the preset's steps."""
_N_SETTINGS = 60
"""Of a family."""
_LARGEST = 2**13
"""Tasks that infinitely many count as."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One place of the grid."""

    n_tasks: int | None
    format: str
    body: str
    n_layers: int
    d_model: int
    length: float

    @property
    def name(self) -> str:
        """What groups call it."""
        tasks = self.n_tasks or "all"
        return (
            f"{tasks} tasks {self.format} {self.body} {self.n_layers}x{self.d_model} {self.length}"
        )


def settings_of(family: str) -> list[Setting]:
    """Places drawn from the whole grid of a family, the same ones each time.

    All values of each axis come equally often, as far as their number allows.
    """
    axes: dict[str, tuple[Any, ...]] = {
        "n_tasks": _N_TASKS.get(family, (None,)), "format": _FORMATS, "body": _BODIES,
        "n_layers": _DEPTHS, "d_model": _WIDTHS, "length": _LENGTHS,
    }  # fmt: skip
    drawn = random.Random(family)
    columns = {}
    for name, values in axes.items():
        columns[name] = [values[i % len(values)] for i in range(_N_SETTINGS)]
        drawn.shuffle(columns[name])
    rows = zip(*columns.values(), strict=True)
    return list(dict.fromkeys(Setting(**dict(zip(columns, row, strict=True))) for row in rows))


def _units(experiment: str, preset: Preset) -> list[RunUnit]:
    """A group for each seed and setting; settings of the families in turn."""
    settings = [(family, one) for family in preset.tasks for one in settings_of(family)]
    settings.sort(key=lambda place: settings_of(place[0]).index(place[1]))
    groups = [
        RunUnit(experiment=experiment, model=None, tasks=(family,), seed=seed, part=one.name)
        for seed in preset.seeds
        for family, one in settings
    ]
    return groups if preset.shrink == 1 else groups[:2]


def _setting(unit: RunUnit) -> Setting:
    return next(one for one in settings_of(unit.task) if one.name == unit.part)


def _config(unit: RunUnit, preset: Preset) -> VariantsConfig:
    """Vanilla alone, in the setting of a group."""
    one = _setting(unit)
    start = config_of(
        unit,
        preset,
        tvp_layers=(None,),
        settings={"format": one.format, "n_train_tasks": one.n_tasks},
        shape={
            "body": one.body, "n_layers": one.n_layers, "d_model": one.d_model,
            "weight_std": one.d_model**-0.5,
        },
    )  # fmt: skip
    steps = max(2, round(start.training.steps * one.length))
    training = start.training.model_copy(update={"steps": steps, "tvp_from": steps})
    return start.model_copy(update={"training": training})


def _run(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """Train, and measure every layer; the best is chosen on the trials of the training curve."""
    one, config = _setting(unit), _config(unit, preset)
    finding, folder = trained(config, work_dir)
    (variant,) = (folder / f"seed-{unit.seed}").iterdir()
    about: dict[str, Any] = {
        "changed": unit.part,
        "n_tasks": one.n_tasks or _all_tasks(unit.task),
        "format": one.format,
        "body": one.body,
        "n_layers": one.n_layers,
        "d_model": one.d_model,
        "n_steps": config.training.steps,
    }
    name = config.training.shape.name
    rows = of_variants(name, finding, ("icl_error", "base_error", "optimal_error"), **about)
    *_, last = (variant / "metrics.jsonl").read_text().splitlines()
    chosen = _best_layer(json.loads(last).get("recovery", ()))
    if chosen is None:
        return GroupResult(measurements=rows)
    rows += [
        measurement_of(
            name, row, measure_name, row[measure_name],
            low=row["recovery_low"] if measure_name == "recovery" else None,
            high=row["recovery_high"] if measure_name == "recovery" else None,
            layer=chosen, **about,
        )
        for row in finding.rows
        if row["layer"] == chosen
        for measure_name in (
            "recovery", "recovery_kept", "tvp_error", "wrong_task_error",
            "wrong_task_error_to_injected",
        )
        if row[measure_name] is not None
    ]  # fmt: skip
    rows += _on_new_tasks(Learner.load(variant), preset, unit.seed, name, chosen, about)
    return GroupResult(measurements=rows)


def _all_tasks(family: str) -> int:
    """All tasks that a family trains on; for infinitely many, a number above the grid's."""
    return 10 if family == "offset" else _LARGEST


def _best_layer(recovery: list[float | None]) -> int | None:
    """Of those that leave a block to read the query."""
    known = [(value, layer) for layer, value in enumerate(recovery[:-1]) if value is not None]
    return max(known)[1] if known else None


def _on_new_tasks(
    learner: Learner, preset: Preset, seed: int, name: str, layer: int, about: dict[str, Any]
) -> Iterator[Measurement]:
    """Errors and recovery on tasks that were never trained on, where there are such."""
    if HELD_OUT not in learner.family.shifts:
        return
    found = measure(learner, n_trials=preset.n_trials, seed=seed, shift=HELD_OUT)
    row = {"variant": "vanilla", "seed": seed, "n": preset.n_trials}
    at = about | {"shift": HELD_OUT}
    yield measurement_of(name, row, "icl_error", found.mean(found.icl), **at)
    assert found.prompted is not None
    recovery = found.recovery(found.prompted.reset)[layer]
    if recovery is not None:
        low, high = found.recovery_interval(found.prompted.reset[layer])
        yield measurement_of(name, row, "recovery", recovery, low=low, high=high, layer=layer, **at)


_LEARNED, _MOVED = 0.5, 0.1


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A logistic regression of whether a vector emerged on a setting.

    Attributes:
        weights: By feature, each scaled to mean 0 and standard deviation 1.
        n_fitted: Settings it was fitted on: every second one.
        n_predicted: The others.
        accuracy: Share of the others that it is right about.
        most_frequent: Share that the more frequent outcome of the fitted half gets right.
    """

    weights: dict[str, float]
    n_fitted: int
    n_predicted: int
    accuracy: float
    most_frequent: float


def emerged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting and seed, with `learned` and `emerged`.

    `learned` is whether half of the error is gone in context. A vector has `emerged` where it is,
    the recovery's interval is above 0, and another task's vector gives the answer of its own task:
    a tenth of the gain at least. What recovers without that is no vector of the task.
    """
    places = ["task", "seed", "changed"]
    own = rows[rows["shift"].isna()] if "shift" in rows else rows
    every = own[own["measure"].eq("icl_error")].set_index(places)
    table = every.drop(columns=["measure", "value", "low", "high"])
    for name in ("icl_error", "base_error", "recovery", "wrong_task_error_to_injected"):
        of_measure = own[own["measure"].eq(name)].set_index(places)
        table[name] = of_measure["value"]
        if name == "recovery":
            table["low"] = of_measure["low"]
    gain = table["base_error"] - table["icl_error"]
    learned = gain >= _LEARNED * table["base_error"]
    moved = table["base_error"] - table["wrong_task_error_to_injected"]
    found = learned & table["low"].gt(0) & (moved >= _MOVED * gain)
    return table.assign(learned=learned, emerged=found).reset_index()


def boundary(table: pd.DataFrame) -> Boundary | None:
    """Fit on every second setting of `emerged`, and predict the others.

    Seeds of one setting are on one side. None where the fitted half has one outcome alone.
    """
    named = {name: i for i, name in enumerate(dict.fromkeys(table["changed"]))}
    is_fitted = torch.tensor([named[name] % 2 == 0 for name in table["changed"]])
    inputs = _features(table)
    outcome = torch.tensor(table["emerged"].tolist())
    seen = torch.tensor(inputs.to_numpy(dtype="float64"))
    mean, spread = seen[is_fitted].mean(dim=0), seen[is_fitted].std(dim=0)
    scaled = (seen - mean) / spread.where(spread > 1e-9, torch.ones_like(spread))
    if len(set(outcome[is_fitted].tolist())) < 2 or not bool((~is_fitted).any()):
        return None
    weight, bias = logistic_regression(scaled[is_fitted], outcome[is_fitted])
    others = outcome[~is_fitted]
    predicted = scaled[~is_fitted] @ weight + bias > 0
    most = bool(outcome[is_fitted].double().mean() > 0.5)
    return Boundary(
        weights=dict(zip(inputs.columns, weight.tolist(), strict=True)),
        n_fitted=int(is_fitted.sum()),
        n_predicted=len(others),
        accuracy=float((predicted == others).double().mean()),
        most_frequent=float((others == most).double().mean()),
    )


def _features(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a setting: logarithms of sizes, and 0 or 1 for words."""
    sizes = {name: table[name] for name in ("n_layers", "d_model", "n_steps")}
    sizes["n_tasks"] = table["n_tasks"]
    logs = {
        f"log {name}": torch.log2(torch.tensor(values.to_numpy(dtype="float64"))).numpy()
        for name, values in sizes.items()
    }
    words = {f"format {name}": table["format"].eq(name).astype(float) for name in _FORMATS[1:]}
    words["rotary positions"] = table["body"].eq("llama").astype(float)
    return pd.DataFrame({**logs, **words}, index=table.index)


def _drawn(rows: pd.DataFrame) -> list[AnyFigure]:
    """Recovery by tasks trained on, a figure for each family, with what the boundary predicts."""
    own = rows[rows["measure"].eq("recovery")]
    own = own[own["shift"].isna()] if "shift" in own else own
    tasks = torch.tensor(own["n_tasks"].to_numpy(dtype="float64"))
    own = own.assign(tasks=torch.log2(tasks).numpy())
    table = emerged(rows)
    figures: list[AnyFigure] = []
    for family, part in own.groupby("task", sort=False):
        drawn = curves(
            part, "recovery-by-tasks", "Recovery by number of tasks trained on", x="tasks",
            y="recovery",
            labels=("log2 of the tasks (13: infinitely many)", "Recovery, best layer", "format"),
        )  # fmt: skip
        said = _in_words(table[table["task"].eq(family)])
        figures += [replace(one, caption=said) for one in drawn if isinstance(one, Figure)]
    return figures


def _in_words(table: pd.DataFrame) -> str:
    """In how many settings a vector emerged, and how well the boundary predicts."""
    said = (
        f"Of {len(table)} learners {int(table['learned'].sum())} learned in context, and in "
        f"{int(table['emerged'].sum())} a vector emerged. "
    )
    found = boundary(table)
    if found is None:
        return f"{said}A boundary needs both outcomes among the settings it is fitted on."
    return (
        f"{said}A boundary fitted on {found.n_fitted} is right about {found.accuracy:.0%} of the "
        f"{found.n_predicted} others; the more frequent outcome is right about "
        f"{found.most_frequent:.0%}."
    )


register(
    Experiment(
        name="tvp-grid",
        title="Where a vector emerges by itself",
        question="In which settings does a learner form a task vector without being trained to?",
        paper=TVP_PAPER,
        what_the_paper_did="Vectors emerge under certain conditions: input format and depth are "
        "named.",
        what_we_do_otherwise="No hyper-parameter of the paper is known to us. Vanilla learners in "
        "settings drawn from a grid over tasks trained on, format, positions, width, depth and "
        "length of training. A vector has emerged where half of the error is gone in context, the "
        "recovery of its best layer, chosen on other trials, is above 0 with its interval, and "
        "another task's vector gives its own task's answer, by a tenth of the gain. A logistic "
        "boundary is fitted on every second setting and predicts the others.",
        presets={
            "smoke": Preset(tasks=("offset",), shrink=250, n_trials=32),
            "cpu": Preset(tasks=tuple(_N_TASKS)),
            "paper": Preset(tasks=tuple(_N_TASKS), seeds=(0, 1, 2)),
        },
        run=_run,
        estimate=lambda unit, preset, estimator: cost(unit, preset, estimator, config=_config),
        units=_units,
        figures=_drawn,
        shown=("icl_error", "recovery"),
    )
)
