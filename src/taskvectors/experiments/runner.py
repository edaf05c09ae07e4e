"""Runs the groups of an experiment that are missing, here or on a cluster, into one store.

What runs a group is told apart from what keeps it: the process that was started writes every file,
so nothing is written twice, whoever did the work.
"""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from taskvectors.costs import Cost, total
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import Experiment, GroupResult, Preset, RunUnit, WorkDir
from taskvectors.methods.shared.curves import noted_curves
from taskvectors.models import LanguageModel
from taskvectors.progress import Throughput
from taskvectors.results import Cell, RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One group of an experiment, ready to be run anywhere."""

    experiment: Experiment
    unit: RunUnit
    preset: Preset
    estimate: Cost | None = None
    """What it will take, where that is known."""

    def run(self, work_dir: WorkDir) -> GroupResult:
        """Run it.

        Raises:
            TaskVectorsError: It could not be run as asked.
        """
        return self.experiment.run(self.unit, self.preset, work_dir)


def estimated(jobs: Sequence[Job], estimator: Estimator) -> list[Cost]:
    """What each job will take, one after the other."""
    return [
        total(job.experiment.estimate(job.unit, job.preset, estimator), job.unit.key)
        for job in jobs
    ]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a group: what it found, or why it could not be run."""

    unit: RunUnit
    found: GroupResult | None
    error: str = ""
    seconds: float = 0.0
    weights_notes: tuple[str, ...] = ()
    """What is to be known of the weights of the models it used."""
    curves: tuple[Mapping[str, Any], ...] = ()
    """What was logged in training."""


Execute = Callable[[Sequence[Job]], Iterator[Done]]
"""Runs jobs in some order and gives what became of each as soon as that is known."""


@dataclass(kw_only=True)
class Models:
    """Gives models, and keeps the one that was asked for last: groups of one model follow another.

    Two types of one model are kept side by side, since a comparison may score in a second one.
    """

    kept: dict[ModelConfig, LanguageModel] = field(default_factory=dict)

    def load(self, config: ModelConfig) -> LanguageModel:
        """The model of a config."""
        if config not in self.kept:
            for other in [one for one in self.kept if one.source != config.source]:
                del self.kept[other]
            gc.collect()
            self.kept[config] = config.load()
        return self.kept[config]


def in_process(folder: Path, models: Models) -> Execute:
    """Runs jobs one after the other in this process.

    Args:
        folder: Where groups work; `shared` in it is common to several experiments.
        models: What loads models.
    """

    def execute(jobs: Sequence[Job]) -> Iterator[Done]:
        for job in jobs:
            work_dir = WorkDir(
                folder=folder / "work" / job.experiment.name / job.unit.key,
                shared=folder / "shared",
                load=models.load,
            )
            logger.info("%s, in hand: %s", job.experiment.name, job.unit.key)
            yield outcome_of(job, work_dir)

    return execute


def outcome_of(job: Job, work_dir: WorkDir) -> Done:
    """Run a job; what a user can act on is an outcome, anything else is a bug and raised."""
    work_dir.folder.mkdir(parents=True, exist_ok=True)
    work_dir.shared.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    notes: dict[str, None] = {}

    def load(config: ModelConfig) -> LanguageModel:
        model = work_dir.load(config)
        if model.weights_note:
            notes[f"{model.source}: {model.weights_note}"] = None
        return model

    try:
        with noted_curves() as curves:
            found = job.run(replace(work_dir, load=load))
    except TaskVectorsError as error:
        return Done(unit=job.unit, found=None, error=str(error))
    seconds = time.perf_counter() - started
    return Done(
        unit=job.unit,
        found=found,
        seconds=seconds,
        weights_notes=tuple(notes),
        curves=tuple(curves),
    )


def run_missing(
    missing: Sequence[Job],
    run_folder: RunFolder,
    execute: Execute,
    cells: dict[str, Cell | None],
) -> list[str]:
    """Run jobs whose group is not finished, and keep what they give.

    Args:
        missing: Groups of one experiment.
        run_folder: Where to.
        execute: Runs them.
        cells: By the key of the group; those that are made are put into it.

    Returns:
        What went wrong, group by group. Such a group is not kept: the same command tries it again.
    """
    started, failed, n = time.perf_counter(), list[str](), len(missing)
    estimates = {job.unit: job.estimate for job in missing}
    for number, done in enumerate(execute(missing), start=1):
        name, key = missing[0].experiment.name, done.unit.key
        if done.found is None:
            logger.warning("%s, %s could not be run: %s", name, key, done.error)
            failed.append(f"{key} could not be run: {done.error}")
        else:
            cost = estimates[done.unit]
            cell = done.found.cell(
                done.unit,
                done.curves,
                seconds=done.seconds,
                estimate=None if cost is None else asdict(cost),
                weights_notes=list(done.weights_notes),
            )
            run_folder.keep(key, cell)
            cells[key] = cell
        speed = Throughput(done=number, seconds=time.perf_counter() - started)
        left = f", {speed.time_for(n - number)} left" if number < n else ""
        logger.info("%s: %d of %d groups done%s", name, number, n, left)
    return failed
