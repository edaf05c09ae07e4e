"""What experiments on learners train: variants of a family at a preset, kept and shared."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from taskvectors.costs import Cost
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import Preset, PresetName, RunUnit, WorkDir
from taskvectors.learners import LearnerShape, TrainingConfig, VariantsConfig, preset_of
from taskvectors.learners.costs import train_cost
from taskvectors.learners.families import find_family
from taskvectors.learners.variants import read_finding, train_variants
from taskvectors.methods.shared.curves import note_curves
from taskvectors.results.learners import Finding, finding_of

_SWEPT = (None, 0, 1, 2)
"""l* that are swept, so that several experiments share what is trained."""
_MOST_SWEPT_STEPS = 3_000
"""On two cores, a family that takes more steps has one l*."""


def presets(
    tasks: tuple[str, ...], *, paper: tuple[str, ...] | None = None
) -> dict[PresetName, Preset]:
    """The presets of an experiment on learners.

    Args:
        tasks: Families, in the preset cpu.
        paper: Families in the preset paper; the same by default.
    """
    return {
        "smoke": Preset(tasks=tasks[:1], shrink=250, n_trials=32),
        "cpu": Preset(tasks=tasks),
        "paper": Preset(tasks=paper or tasks, seeds=(0, 1, 2), sizes="paper"),
    }


def config_of(unit: RunUnit, preset: Preset, **about: Any) -> VariantsConfig:
    """What is trained on a group's family, at some preset.

    Args:
        unit: The group; its task is the family.
        preset: How long, and how much is measured.
        about: Fields of the config that an experiment changes; `settings` and `shape` are added to
            the preset's.
    """
    start = preset_of(unit.task, preset.sizes)
    settings = start.settings | about.pop("settings", {})
    shape = LearnerShape(**start.training.shape.model_dump() | about.pop("shape", {}))
    training = start.training.model_dump() | {"shape": shape}
    if preset.shrink > 1:
        steps = max(2, start.training.steps // preset.shrink)
        training |= {
            "steps": steps,
            "tvp_from": steps // 2,
            "batch_size": 8,
            "measure_every": max(1, steps // 2),
            "n_curve_trials": preset.n_trials,
        }
        settings = {**find_family(unit.task).quick} | settings
    return VariantsConfig(
        **start.model_dump()
        | {"settings": settings, "training": TrainingConfig(**training), "with_shifts": False}
        | {"seeds": (unit.seed,), "n_trials": preset.n_trials}
        | about
    )


def swept(unit: RunUnit, preset: Preset) -> VariantsConfig:
    """Vanilla and every l*, with equal operations and the out-of-distribution battery."""
    steps = preset_of(unit.task, preset.sizes).training.steps
    if preset.sizes == "cpu" and steps > _MOST_SWEPT_STEPS:
        return config_of(unit, preset)
    n_layers = config_of(unit, preset, tvp_layers=(None,)).training.shape.n_layers
    layers = (*_SWEPT,) if n_layers == 4 else (None, *range(1, n_layers - 1, 2))
    return config_of(unit, preset, tvp_layers=layers, equal_flops=True, with_shifts=True)


def trained(config: VariantsConfig, work_dir: WorkDir) -> tuple[Finding, Path]:
    """Variants and where they lie; those that another experiment trained are not trained again."""
    digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
    with work_dir.locked(f"learners/{Path(config.task).stem}-{digest}") as folder:
        found = read_finding(config, folder)
        if found is None:
            record = train_variants(config, folder)
            note_curves(record.curves.to_dict("records"))  # type: ignore[arg-type]
            found = finding_of(record.frame)
    return found, folder


def trained_costs(config: VariantsConfig, estimator: Estimator) -> list[Cost]:
    """What `trained` takes, where it was not asked for before; baselines are not counted."""
    if not estimator.is_new("learners", config.model_dump_json()):
        return []
    return [train_cost(config, estimator.device(torch.float32))]
