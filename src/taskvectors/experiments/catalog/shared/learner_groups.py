"""What a group of the experiments on learners trains and measures, and what that costs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from taskvectors.costs import Cost
from taskvectors.experiments.catalog.shared.learner_runs import (
    config_of,
    swept,
    trained,
    trained_costs,
)
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import GroupResult, Preset, RunUnit, WorkDir
from taskvectors.files import read_json
from taskvectors.learners import Learner, VariantsConfig, load_family
from taskvectors.learners.costs import measured_cost
from taskvectors.learners.family import TaskFamily
from taskvectors.learners.measures import measure
from taskvectors.learners.patching import patched_rows
from taskvectors.results import Measurement
from taskvectors.results.learners import (
    MEASURES,
    measurement_of,
    of_shifts,
    of_variants,
)

Places = Mapping[str, tuple[dict[str, Any], Any]]
"""Changes of a config and l*, by the part that a group is of."""


def by_variant(
    unit: RunUnit, preset: Preset, work_dir: WorkDir, *, names: Sequence[str] = tuple(MEASURES)
) -> GroupResult:
    """The sweep's variants, by layer."""
    config = swept(unit, preset)
    finding, _ = trained(config, work_dir)
    return GroupResult(measurements=of_variants(config.training.shape.name, finding, names))


def out_of_distribution(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """In-context errors of the sweep's variants under every shift, and their trend on l*."""
    config = swept(unit, preset)
    finding, _ = trained(config, work_dir)
    return GroupResult(measurements=of_shifts(config.training.shape.name, finding))


def of_training(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """Errors and recoveries along training."""
    found = []
    for row, folder in _variants(unit, preset, work_dir):
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            point = json.loads(line)
            at = {"step": point["step"]}
            found += [row(name, point[name], **at) for name in ("icl_error", "zero_shot_error")]
            found += [
                row(name, value, layer=layer, **at)
                for name in ("tvp_error", "recovery")
                for layer, value in enumerate(point.get(name, ()))
                if value is not None
            ]
    return GroupResult(measurements=found)


def of_context(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """Errors and recoveries by number of demonstrations, beyond the trained number too."""
    found = []
    for row, folder in _variants(unit, preset, work_dir, n=preset.n_trials):
        learner = Learner.load(folder, unit.task if unit.task.endswith(".py") else "")
        for n in _numbers(learner):
            one = measure(learner, n_trials=preset.n_trials, seed=unit.seed, n_demonstrations=n)
            found.append(row("icl_error", one.mean(one.icl), n_demonstrations=n))
            if one.prompted is None:
                continue
            recovery = one.recovery(one.prompted.reset)
            for layer, value in enumerate(recovery):
                errors, at = one.prompted.reset[layer], {"layer": layer, "n_demonstrations": n}
                found.append(row("tvp_error", one.mean(errors), **at))
                if value is not None:
                    low, high = one.recovery_interval(errors)
                    found.append(row("recovery", value, low=low, high=high, **at))
    return GroupResult(measurements=found)


def of_patching(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """Recoveries with the states of more and more places, after one block and after all."""
    found = []
    for row, folder in _variants(unit, preset, work_dir, n=preset.n_trials):
        learner = Learner.load(folder, unit.task if unit.task.endswith(".py") else "")
        for one in patched_rows(learner, n_trials=preset.n_trials, seed=unit.seed):
            at = {"place": one["place"], "layer": one["layer"]}
            found += [
                row(name, one[name], **at)
                for name in ("patched_error", "recovery")
                if one[name] is not None
            ]
    return GroupResult(measurements=found)


def _variants(
    unit: RunUnit, preset: Preset, work_dir: WorkDir, n: int | None = None
) -> Iterator[tuple[Callable[..., Measurement], Path]]:
    """What makes a measurement of each of the sweep's variants, and the variant's folder."""
    config = swept(unit, preset)
    _, folder = trained(config, work_dir)
    for variant in sorted((folder / f"seed-{unit.seed}").iterdir()):
        held = read_json(variant / "run.json", dict[str, Any], "train the variant again")
        layer = held["training"]["tvp_layer"]
        about = {"variant": variant.name, "tvp_layer": layer, "n": n}
        yield partial(measurement_of, config.training.shape.name, about), variant


def context_cost(unit: RunUnit, preset: Preset, estimator: Estimator) -> list[Cost]:
    """Of training once, and of measuring at every number of demonstrations."""
    config = swept(unit, preset)
    numbers = _candidates(load_family(config.task, config.settings))
    device = estimator.device(torch.float32)
    measured = measured_cost(config, device, n_times=len(numbers))
    return [*trained_costs(config, estimator), measured]


def _numbers(learner: Learner) -> list[int]:
    """Those for which the learner has positions."""
    places = int(learner.hf.config.max_position_embeddings)
    family = learner.family
    return [n for n in _candidates(family) if family.n_positions(n) <= places]


def _candidates(family: TaskFamily) -> list[int]:
    """1, 2, 4, ... demonstrations, the trained number, and 1.5 and 2 times as many."""
    trained_n = family.n_demonstrations
    below = [2**k for k in range(12) if 2**k < trained_n]
    return [*below, trained_n, round(1.5 * trained_n), 2 * trained_n]


def run_at_places(
    unit: RunUnit, preset: Preset, work_dir: WorkDir, *, places: Places
) -> GroupResult:
    """Vanilla and one l* with the change that the group's part names, by layer."""
    config = at_places(unit, preset, places=places)
    finding, _ = trained(config, work_dir)
    return GroupResult(
        measurements=of_variants(config.training.shape.name, finding, changed=unit.part)
    )


def at_places(unit: RunUnit, preset: Preset, *, places: Places) -> VariantsConfig:
    """Vanilla and one l* for the change that the group's part names."""
    changes, tvp_layer = places[unit.part]
    layers = (None,) if tvp_layer is None else (None, tvp_layer)
    return config_of(unit, preset, tvp_layers=layers, **{k: dict(v) for k, v in changes.items()})


def cost(
    unit: RunUnit,
    preset: Preset,
    estimator: Estimator,
    *,
    config: Callable[[RunUnit, Preset], VariantsConfig] = swept,
) -> list[Cost]:
    """Of training and measuring what a config asks for."""
    return trained_costs(config(unit, preset), estimator)


def parts(names: Sequence[str], experiment: str, preset: Preset) -> list[RunUnit]:
    """A group for each family, part and seed."""
    return [
        RunUnit(experiment=experiment, model=None, tasks=(task,), seed=seed, part=part)
        for task in preset.tasks
        for part in names
        for seed in preset.seeds
    ]


def families(experiment: str, preset: Preset) -> list[RunUnit]:
    """A group for each family and seed."""
    return parts(("",), experiment, preset)


def of_preset(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """A formal language as its preset has it, with the out-of-distribution battery."""
    config = preset_config(unit, preset)
    finding, _ = trained(config, work_dir)
    return GroupResult(
        measurements=[
            *of_variants(config.training.shape.name, finding),
            *of_shifts(config.training.shape.name, finding),
        ]
    )


preset_config = partial(config_of, with_shifts=True)
"""The config of a group of `of_preset`."""
