"""Variants side by side: the same start, continued on L_ICL alone and with the TVP-loss at each l*.

Vanilla is the same checkpoint continued on L_ICL alone for equal steps and data. A second one gets
as many further steps as the TVP-loss costs floating-point operations. Each variant is a folder of
its own, so that what was finished, or begun, before is not trained or measured again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors._version import __version__
from taskvectors.errors import TaskVectorsError
from taskvectors.learners.config import TrainingConfig, VariantsConfig, places_of
from taskvectors.learners.devices import Devices
from taskvectors.learners.families import find_family, load_family
from taskvectors.learners.family import CurriculumStage, TaskFamily, generator_for
from taskvectors.learners.model import Learner
from taskvectors.learners.robustness import trend_on_layer
from taskvectors.learners.rows import curve_point, measured_rows, scores_of, shifted_rows
from taskvectors.learners.shape import LearnerShape
from taskvectors.learners.tracking import TrackerName, open_tracker
from taskvectors.learners.training import SHARED, Trained, train
from taskvectors.results import Cell, Record, RunFolder, frame_of, open_run, read_run
from taskvectors.results.drawing import curves, layer_of
from taskvectors.results.figures import AnyFigure
from taskvectors.results.folder import kept_in, now
from taskvectors.results.learners import Finding, Row, finding_of, of_shifts, of_variants
from taskvectors.results.provenance import inputs_of_named_task, inputs_of_versions, versions

logger = logging.getLogger(__name__)

VANILLA, EQUAL_FLOPS = "vanilla", "vanilla-equal-flops"


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
            "tvp_layer": _one_layer(self.config.tvp_layer),
            "steps": self.config.steps,
        }


def train_variants(
    config: VariantsConfig,
    folder: Path,
    *,
    command: Sequence[str] = (),
    devices: Devices | None = None,
    tracker: TrackerName | None = None,
) -> Record:
    """Train and measure all variants, or go on with those that are left.

    Args:
        config: What to train.
        folder: Where to; a folder per seed and variant.
        command: The command line that asked for it, where there is one.
        devices: What it runs on.
        tracker: An experiment tracker to tell the metrics, too.

    Returns:
        The record, in its folder; `results.learners.finding_of` gives its wide rows.

    Raises:
        DataError: The folder cannot be used, or holds a run that was made from something else.
        TaskVectorsError: A setting is not one that the family takes, or the format has no vector.
    """
    started = time.perf_counter()
    family = load_family(config.task, config.settings)
    # more variants, seeds and trials may be asked for later
    asked = config.model_dump(mode="json", include={"task", "settings", "training"})
    inputs = inputs_of_versions() | inputs_of_named_task(config.task, config.seeds)
    with open_run(folder, kind="train", asked=asked) as run_folder:
        run_folder.check_made_from(inputs)
        run_folder.begin()
        cells: list[Cell] = []
        for seed in config.seeds:
            first: Path | None = None
            for variant in variants_of(config, family, seed):
                out = folder / f"seed-{seed}" / variant.name
                steps = variant.config.steps
                logger.info("%s, seed %d: %d steps", variant.name, seed, steps)
                done = _trained(config, family, variant, out, first, devices, tracker)
                if (out / SHARED).is_file():
                    first = first or out
                cells.append(_measured(config, variant, done, run_folder))
                about = {**done.learner.about, "scores": scores_of(cells[-1].rows)}
                if devices is None or devices.is_main:
                    replace(done.learner, about=about).save_about(out)
        about = _describe(config, command) | {"seconds": time.perf_counter() - started}
        return run_folder.write(_record(config, cells, about))


def read_finding(config: VariantsConfig, folder: Path) -> Finding | None:
    """What `train_variants` found in a folder before, if it came to an end for this config."""
    if not (folder / "results.parquet").is_file():
        return None
    record = read_run(folder)
    if not record.is_finished or record.metadata["config"] != config.model_dump(mode="json"):
        return None
    return finding_of(record.frame)


def _record(config: VariantsConfig, cells: Sequence[Cell], about: Mapping[str, Any]) -> Record:
    rows = [row for cell in cells for row in cell.rows]
    shifts = finding_of(frame_of(rows)).shifts
    trends = _tidy(config.training.shape, config.task, trends=trends_of(shifts))
    frame, lines = frame_of([*rows, *trends]), [line for cell in cells for line in cell.curves]
    return Record(
        kind="train",
        metadata=about,
        frame=frame,
        figures=tuple(_figures(frame, lines)),
        curves=pd.DataFrame(lines),
    )


def _tidy(
    shape: LearnerShape,
    task: str,
    *,
    rows: Sequence[Row] = (),
    shifts: Sequence[Row] = (),
    trends: Sequence[Row] = (),
) -> list[dict[str, Any]]:
    """Wide rows as those of a record."""
    finding = Finding(rows=rows, shifts=shifts, trends=trends)
    tidy = [*of_variants(shape.name, finding), *of_shifts(shape.name, finding)]
    return [one.as_row(experiment="train", model=shape.name, task=task) for one in tidy]


def _figures(frame: pd.DataFrame, lines: Sequence[Mapping[str, Any]]) -> list[AnyFigure]:
    """Recovery by layer, and the in-context error along training."""
    rows = frame[frame["shift"].isna()] if "shift" in frame else frame
    by_layer = curves(
        rows.assign(place=rows["layers"].map(layer_of)), "recovery", "Recovery by layer",
        x="place", y="recovery",
        labels=("Layer that the vector is read from and put at", "Recovery", "method"),
    )  # fmt: skip
    task = str(frame["task"].iloc[0])
    along = [
        {"measure": "icl_error", "task": task, "method": line["variant"], "step": line["step"],
         "value": line["icl_error"], "low": None, "high": None}
        for line in lines if "icl_error" in line
    ]  # fmt: skip
    drawn = curves(
        pd.DataFrame(along), "icl-error", "In-context error along training",
        x="step", y="icl_error", labels=("Step", "Error in context", "method"),
    ) if along else []  # fmt: skip
    return [*by_layer, *drawn]


def evaluate_learner(
    learner: Learner,
    folder: Path | None = None,
    *,
    name: str,
    n_trials: int,
    seed: int,
    command: Sequence[str] = (),
) -> Record:
    """A learner measured again, in and out of distribution.

    Args:
        learner: The learner.
        folder: Where to keep the record; it is not written by default.
        name: What its rows call it.
        n_trials: Trials to measure on.
        seed: Seed of the trials.
        command: The command line that asked for it, where there is one.
    """
    asked = {"learner": name, "n_trials": n_trials, "seed": seed}
    with kept_in(folder, kind="evaluate", asked=asked) as keep:
        return keep(_evaluated(learner, name, n_trials, seed, command))


def _evaluated(
    learner: Learner, name: str, n_trials: int, seed: int, command: Sequence[str]
) -> Record:
    started = time.perf_counter()
    training = dict(learner.about.get("training", {}))
    about: Row = {"variant": name, "seed": seed}
    about |= {"tvp_layer": _one_layer(training.get("tvp_layer")), "steps": training.get("steps")}
    shape = LearnerShape.of(learner.hf)
    logger.info("Measuring on %d questions", n_trials)
    rows = [about | row for row in measured_rows(learner, n_trials=n_trials, seed=seed)]
    logger.info("Measuring out of distribution")
    shifts = [about | row for row in shifted_rows(learner, n_trials=n_trials, seed=seed)]
    family: Any = learner.family
    frame = frame_of(_tidy(shape, learner.family_source, rows=rows, shifts=shifts))
    metadata = _about(shape, learner.family_source) | {
        "learner": name,
        "settings": family.model_dump(mode="json"),
        "training": training,
        "n_trials": n_trials,
        "seed": seed,
        "command": list(command),
        "seconds": time.perf_counter() - started,
    }
    return Record(
        kind="evaluate", metadata=metadata, frame=frame, figures=tuple(_figures(frame, ()))
    )


def _describe(config: VariantsConfig, command: Sequence[str]) -> dict[str, Any]:
    return _about(config.training.shape, config.task) | {
        "command": list(command),
        "config": config.model_dump(mode="json"),
        "seeds": list(config.seeds),
    }


def _about(shape: LearnerShape, task: str) -> dict[str, Any]:
    """What a record says of a learner and its family."""
    family = find_family(task)
    known = {"title": family.summary or family.name, "citation": family.citation}
    return {
        "model": shape.name,
        "task": task,
        "methods": {family.name: known | {"summary": family.summary}},
        "versions": versions(),
        "finished": now(),
    }


def flops_ratio(family: TaskFamily, config: TrainingConfig) -> float:
    """A step with the TVP-loss over one without, counted in columns that go through a block.

    Each column costs a block's matrix products; attention's part, which grows with length, and
    the read-in and read-out are left out.
    """
    generator = generator_for("cpu", 0)
    batch = family.batch(family.draw_tasks(1, generator), generator, CurriculumStage())
    n_layers = config.shape.n_layers
    n_sites = min(batch.sites.shape[1], config.sites_per_sequence)
    columns = batch.queries.shape[2]
    is_last = batch.site_column == columns - 1
    extra = sum(
        n_sites * ((layer + 1) * (columns - is_last) + (n_layers - layer - 1) * columns)
        for layer in places_of(config.tvp_layer)
    )
    return 1 + extra / (n_layers * batch.inputs.shape[1])


def _one_layer(layer: Any) -> int | None:
    """l* of a row, where it is one; a variant's name has several."""
    return layer if isinstance(layer, int) else None


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
    layers = sorted((one for one in config.tvp_layers if one is not None), key=places_of)
    generator = generator_for("cpu", 0)
    probe = family.batch(family.draw_tasks(1, generator), generator, CurriculumStage())
    if layers and not probe.sites.shape[1]:
        raise TaskVectorsError(
            "this format has no place for a task vector that is not the query, so the TVP-loss is "
            "undefined; use xzy, zxy or xzyd, or --tvp-layer none"
        )
    found = [Variant(name=VANILLA, config=base)] if None in config.tvp_layers else []
    for layer in layers:
        changed = TrainingConfig(**base.model_dump() | {"tvp_layer": layer})
        name = "+".join(map(str, places_of(layer)))
        found.append(Variant(name=f"tvp-{name}", config=changed))
    if config.equal_flops and layers:
        ratio = max(flops_ratio(family, one.config) for one in found)
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
) -> Trained:
    opened = None if tracker is None else open_tracker(tracker, out)
    try:
        return train(
            family,
            variant.config,
            out,
            family_source=config.task,
            measure=curve_point(variant.config.n_curve_trials),
            devices=devices,
            shared=first,
            tracker=opened,
        )
    finally:
        if opened is not None:
            opened.close()


def _measured(
    config: VariantsConfig,
    variant: Variant,
    done: Trained,
    run_folder: RunFolder,
) -> Cell:
    """A variant's rows, kept as a cell, so that they are measured once."""
    seed, n_trials = variant.config.seed, config.n_trials
    key = f"seed-{seed}-{variant.name}"
    asked = {"n_trials": n_trials, "with_shifts": config.with_shifts, "version": __version__}
    kept = run_folder.cell(key)
    if kept is not None and asked.items() <= kept.metadata.items():
        logger.info("measured before")
        return kept
    rows = measured_rows(done.learner, n_trials=n_trials, seed=seed)
    shifts: list[Row] = []
    if config.with_shifts:
        shifts = shifted_rows(done.learner, n_trials=n_trials, seed=seed)
    about = {"variant": variant.name, "seed": seed}
    cell = Cell(
        rows=_tidy(
            config.training.shape,
            config.task,
            rows=[variant.about | row for row in rows],
            shifts=[variant.about | row for row in shifts],
        ),
        curves=[about | dict(line) for line in done.curve],
        metadata=asked,
    )
    run_folder.keep(key, cell)
    return cell
