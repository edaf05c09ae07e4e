"""Variants side by side: the same start, continued on L_ICL alone and with the TVP-loss at each l*.

Vanilla is the same checkpoint continued on L_ICL alone for equal steps and data. A second one gets
as many further steps as the TVP-loss costs floating-point operations. Each variant is a folder of
its own, so that what was finished, or begun, before is not trained or measured again.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskvectors._version import __version__
from taskvectors.errors import TaskVectorsError
from taskvectors.learners.config import TrainingConfig
from taskvectors.learners.devices import Devices
from taskvectors.learners.family import Extent, TaskFamily, generator_for
from taskvectors.learners.files import write_whole
from taskvectors.learners.model import Learner
from taskvectors.learners.robustness import trend_on_layer
from taskvectors.learners.rows import Row, curve_point, measured_rows, shifted_rows
from taskvectors.learners.tasks import load_family
from taskvectors.learners.tracking import TrackerName, open_tracker
from taskvectors.learners.training import SHARED, train

logger = logging.getLogger(__name__)

VANILLA, EQUAL_FLOPS = "vanilla", "vanilla-equal-flops"
_RESULTS = "results.json"


class VariantsConfig(BaseModel):
    """What is trained and measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    task: str
    """A family, or the path of a file that has one."""
    settings: dict[str, Any] = {}
    """Values of the family's fields."""
    training: TrainingConfig = TrainingConfig()
    """How each variant is trained, apart from seed and layer."""
    tvp_layers: tuple[int | None, ...] = Field(default=(None, 1), min_length=1)
    """One variant each; None is vanilla."""
    equal_flops: bool = False
    """Train vanilla with the floating-point operations of the costliest variant, too."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each trains all variants."""
    n_trials: int = Field(default=1280, ge=2)
    """Trials that results are on."""
    with_shifts: bool = False
    """Run the out-of-distribution battery on every variant."""

    @model_validator(mode="after")
    def _fits(self) -> "VariantsConfig":
        n_layers = self.training.shape.n_layers
        for layer in self.tvp_layers:
            if layer is not None and not 0 <= layer <= n_layers - 2:
                raise ValueError(
                    f"layer {layer} is no place for the vector of a learner of {n_layers} layers: "
                    f"after it a block has to read the query, so it is 0 to {n_layers - 2}"
                )
        return self


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Rows of all variants, and the trends on l* where the battery was run."""

    rows: Sequence[Row]
    """By variant, seed and layer."""
    shifts: Sequence[Row]
    """By variant, seed and shift."""
    trends: Sequence[Row]
    """By shift."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One learner that is trained."""

    name: str
    config: TrainingConfig

    @property
    def about(self) -> Row:
        """What its rows say of it."""
        return {
            "variant": self.name,
            "seed": self.config.seed,
            "tvp_layer": self.config.tvp_layer,
            "steps": self.config.steps,
        }


def train_variants(
    config: VariantsConfig,
    folder: Path,
    *,
    devices: Devices | None = None,
    tracker: TrackerName | None = None,
    say: Callable[[str], None] = logger.info,
) -> Finding:
    """Train and measure all variants, or go on with those that are left.

    Args:
        config: What to train.
        folder: Where to; a folder per seed and variant.
        devices: What it runs on.
        tracker: An experiment tracker to tell the metrics, too.
        say: Told in a sentence what is being done.

    Raises:
        TaskVectorsError: A setting is not one that the family takes, or the format has no vector.
    """
    family = load_family(config.task, config.settings)
    rows: list[Row] = []
    shifts: list[Row] = []
    for seed in config.seeds:
        first: Path | None = None
        for variant in variants_of(config, family, seed):
            out = folder / f"seed-{seed}" / variant.name
            say(f"{variant.name}, seed {seed}: {variant.config.steps} steps")
            learner = _trained(config, family, variant, out, first, devices, tracker, say)
            if (out / SHARED).is_file():
                first = first or out
            kept = _measured(config, learner, seed, out, say)
            rows += [variant.about | row for row in kept["rows"]]
            shifts += [variant.about | row for row in kept["shifts"]]
    finding = Finding(rows=rows, shifts=shifts, trends=trends_of(shifts))
    held = {"asked": config.model_dump(mode="json"), **finding.__dict__}
    write_whole(folder / _RESULTS, json.dumps(held, indent=1) + "\n")
    return finding


def read_finding(config: VariantsConfig, folder: Path) -> Finding | None:
    """What `train_variants` found in a folder before, if it came to an end for this config."""
    path = folder / _RESULTS
    held = json.loads(path.read_text()) if path.is_file() else {}
    if held.get("asked") != config.model_dump(mode="json"):
        return None
    return Finding(rows=held["rows"], shifts=held["shifts"], trends=held["trends"])


def flops_ratio(family: TaskFamily, config: TrainingConfig) -> float:
    """A step with the TVP-loss over one without, counted in columns that go through a block.

    Each column costs a block's matrix products; attention's part, which grows with length, and
    the read-in and read-out are left out.
    """
    assert config.tvp_layer is not None
    generator = generator_for("cpu", 0)
    episode = family.episode(family.draw_tasks(1, generator), generator, Extent())
    n_layers, lower = config.shape.n_layers, config.tvp_layer + 1
    n_sites = min(episode.sites.shape[1], config.sites_per_sequence)
    columns = episode.queries.shape[2]
    is_last = episode.site_column == columns - 1
    extra = n_sites * (lower * (columns - is_last) + (n_layers - lower) * columns)
    return 1 + extra / (n_layers * episode.inputs.shape[1])


def trends_of(shifts: Sequence[Row]) -> list[Row]:
    """The trend of the ICL error on l*, for every shift that at least three layers were run on."""
    found = []
    for shift in dict.fromkeys(row["shift"] for row in shifts):
        by_seed: dict[int, dict[int, float]] = {}
        for row in shifts:
            if row["shift"] == shift and row["tvp_layer"] is not None:
                by_seed.setdefault(row["seed"], {})[row["tvp_layer"]] = row["icl_error"]
        errors = [[one[layer] for layer in sorted(one)] for one in by_seed.values()]
        trend = trend_on_layer(errors) if errors else None
        if trend is not None:
            found.append({"shift": shift, **trend.__dict__})
    return found


def variants_of(config: VariantsConfig, family: TaskFamily, seed: int) -> list[Variant]:
    """Vanilla first, so that it is the one whose start the others share."""
    base = config.training.model_copy(update={"seed": seed, "tvp_layer": None})
    layers = sorted(layer for layer in config.tvp_layers if layer is not None)
    generator = generator_for("cpu", 0)
    probe = family.episode(family.draw_tasks(1, generator), generator, Extent())
    if layers and not probe.sites.shape[1]:
        raise TaskVectorsError(
            "this format has no place for a task vector that is not the query, so the TVP-loss is "
            "undefined; use xzy, zxy or xzyd, or --tvp-layer none"
        )
    found = [Variant(name=VANILLA, config=base)] if None in config.tvp_layers else []
    for layer in layers:
        changed = TrainingConfig(**base.model_dump() | {"tvp_layer": layer})
        found.append(Variant(name=f"tvp-{layer}", config=changed))
    if config.equal_flops and layers:
        ratio = max(
            flops_ratio(family, one.config) for one in found if one.config.tvp_layer is not None
        )
        steps = base.tvp_from + round((base.steps - base.tvp_from) * ratio)
        longer = base.model_copy(update={"steps": steps})
        found.append(Variant(name=EQUAL_FLOPS, config=longer))
    return found


def _trained(  # noqa: PLR0913, PLR0917  (what `train` takes)
    config: VariantsConfig,
    family: TaskFamily,
    variant: Variant,
    out: Path,
    first: Path | None,
    devices: Devices | None,
    tracker: TrackerName | None,
    say: Callable[[str], None],
) -> Learner:
    opened = None if tracker is None else open_tracker(tracker, out)
    try:
        done = train(
            family,
            variant.config,
            out,
            family_source=config.task,
            measure=curve_point(variant.config.n_curve_trials),
            devices=devices,
            shared=first,
            tracker=opened,
            say=say,
        )
    finally:
        if opened is not None:
            opened.close()
    return done.learner


def _measured(
    config: VariantsConfig, learner: Learner, seed: int, out: Path, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """A variant's rows, kept in its folder, so that they are measured once."""
    path = out / _RESULTS
    asked = {
        "n_trials": config.n_trials,
        "with_shifts": config.with_shifts,
        "version": __version__,
    }
    if path.is_file():
        kept: Mapping[str, Any] = json.loads(path.read_text())
        if asked.items() <= kept.items():
            say("measured before")
            return kept
    held = asked | {
        "rows": measured_rows(learner, n_trials=config.n_trials, seed=seed),
        "shifts": shifted_rows(learner, n_trials=config.n_trials, seed=seed)
        if config.with_shifts
        else [],
    }
    write_whole(path, json.dumps(held, indent=1) + "\n")
    return held
