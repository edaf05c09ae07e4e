"""A table or figure of either paper, by name: its groups run, its results gathered.

The same call on the same folder goes on where it stopped. `all` is every experiment, a folder each.
"""

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from taskvectors.costs import Cost, total
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import (
    EXPERIMENTS,
    Experiment,
    Preset,
    PresetName,
    RecipeName,
    RunUnit,
)
from taskvectors.experiments.runner import (
    Execute,
    Job,
    Models,
    estimated,
    in_process,
    run_missing,
)
from taskvectors.experiments.works import about_methods
from taskvectors.learners.tracking import TrackerName, check_tracker, track_curves
from taskvectors.models.accelerator import first_device
from taskvectors.progress import format_duration
from taskvectors.results import Cell, Published, Record, frame_of, open_run
from taskvectors.results.figures import AnyFigure
from taskvectors.results.folder import now
from taskvectors.results.pooling import over_tasks
from taskvectors.results.provenance import (
    inputs_of_named_task,
    inputs_of_source,
    inputs_of_versions,
    versions,
)
from taskvectors.tasks import load_task
from taskvectors.trunk.memory import readable

logger = logging.getLogger(__name__)

ALL = "all"
_SIZES = ("n_train", "n_validation", "n_test")


class ReproduceConfig(BaseModel):
    """What is reproduced, and on what."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    experiment: str
    """Name of an experiment, or `all`."""
    preset: PresetName = "cpu"
    """How large it is run."""
    models: tuple[str, ...] = ()
    """Models in place of the preset's, as `load_model` takes them."""
    loading: ModelConfig = ModelConfig()
    """How models are loaded, where that differs from the preset; its source is not used."""
    recipe: RecipeName = "from-zero"
    """How vectors are learned: ours, or as published."""
    tasks: tuple[str, ...] = ()
    """Tasks, or families of tasks, in place of the preset's."""
    seeds: tuple[int, ...] = ()
    """Seeds in place of the preset's."""
    n_train: int | None = Field(default=None, ge=1)
    """Training pairs in place of the preset's."""
    n_validation: int | None = Field(default=None, ge=1)
    """Validation pairs in place of the preset's."""
    n_test: int | None = Field(default=None, ge=1)
    """Test pairs in place of the preset's."""
    memory: str | None = None
    """Memory to use, such as 4GB."""
    ray: str | None = None
    """Address of a Ray cluster that runs the groups; this process by default."""
    gpus: int = Field(default=1, ge=0)
    """GPUs that a group takes on the cluster, where it has any."""

    def preset_for(self, experiment: Experiment) -> Preset:
        """The preset that an experiment is run at.

        Raises:
            TaskVectorsError: There is no such task, or what is of models was given for an
                experiment that has none.
        """
        base = experiment.presets[self.preset]
        if self.experiment != ALL:
            experiment.check_tasks(self.tasks)
        given: dict[str, Any] = {
            "tasks": self.tasks,
            "seeds": self.seeds,
            "memory": self.memory,
            "recipe": self.recipe,
            **{name: getattr(self, name) for name in _SIZES},
            "models": self._models(base) if experiment.has_models else (),
        }
        for name in () if experiment.has_models or self.experiment == ALL else self._of_models():
            raise TaskVectorsError(
                f"{experiment.name} trains small learners from scratch and takes no "
                f"--{name.replace('_', '-')}; leave it out"
            )
        return base.model_copy(update={name: value for name, value in given.items() if value})

    def _of_models(self) -> Iterator[str]:
        """What was given that is of language models alone."""
        given = {"model": self.models, "recipe": self.recipe != "from-zero"}
        given |= {name: getattr(self, name) for name in (*_SIZES, "memory")}
        yield from (name for name, value in given.items() if value)
        yield from self.loading.model_dump(exclude_defaults=True, exclude={"source"})

    def _models(self, base: Preset) -> tuple[ModelConfig, ...]:
        asked = tuple(ModelConfig(source=source) for source in self.models) or base.models
        changed = self.loading.model_dump(exclude_defaults=True, exclude={"source"})
        return tuple(model.model_copy(update=changed) for model in asked)


def find_experiment(name: str) -> Experiment:
    """An experiment by its name.

    Raises:
        TaskVectorsError: There is none; the message lists names that are close.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "see taskvectors reproduce --list"
        raise TaskVectorsError(f"no experiment is called {name!r}; {hint}")
    return EXPERIMENTS[name]


def reproduce(
    config: ReproduceConfig,
    folder: Path,
    *,
    command: Sequence[str] = (),
    tracker: TrackerName | None = None,
) -> list[Record]:
    """Run an experiment, or all of them, or go on with what was cut off.

    Args:
        config: What to run.
        folder: The run's folder; with `all`, the folder of one run each.
        command: The command line that asked for it, where there is one.
        tracker: An experiment tracker to tell the curves of training, too.

    Returns:
        The record of each experiment, in its folder.

    Raises:
        DataError: A folder cannot be used, or holds a run that was made from something else.
        TaskVectorsError: There is no such experiment, or nothing of it could be run.
    """
    is_all, chosen = config.experiment == ALL, _chosen(config)
    if tracker is not None:
        check_tracker(tracker)  # before the work, not after it
    by = _By(execute=_executor(config, folder), estimator=Estimator())
    found = []
    for number, experiment in enumerate(chosen, start=1):
        of = f" ({number} of {len(chosen)})" if is_all else ""
        logger.info("%s%s: %s", experiment.name, of, experiment.title)
        where = folder / experiment.name if is_all else folder
        found.append(_run(experiment, config, where, by, command))
        if tracker is not None:
            track_curves(tracker, where, found[-1].curves)
    if all(one.metadata["groups_failed"] == one.metadata["groups"] for one in found):
        raise TaskVectorsError(f"{chosen[0].name}: {found[0].warnings[-1]}")
    return found


def groups_of(config: ReproduceConfig) -> dict[str, list[str]]:
    """Names of the groups that would be run, by experiment.

    Raises:
        TaskVectorsError: There is no such experiment, or it cannot be run so.
    """
    return {
        one.name: [job.unit.key for job in _jobs(one, config.preset_for(one))]
        for one in _chosen(config)
    }


def estimate(config: ReproduceConfig, estimator: Estimator) -> list[Cost]:
    """What an experiment will take group by group, or all of them one by one.

    Of all of them, one that cannot be estimated is among what the estimator left out.

    Args:
        config: What would be run.
        estimator: Puts figures on it.

    Raises:
        TaskVectorsError: There is no such experiment, or it cannot be estimated.
    """
    if config.experiment != ALL:
        (experiment,) = _chosen(config)
        return estimated(_jobs(experiment, config.preset_for(experiment)), estimator)
    costs = []
    for experiment in _chosen(config):
        try:
            units = estimated(_jobs(experiment, config.preset_for(experiment)), estimator)
        except TaskVectorsError as error:
            estimator.left_out.append(f"{experiment.name}: {error}")
        else:
            costs.append(total(units, experiment.name))
    return costs


def _chosen(config: ReproduceConfig) -> list[Experiment]:
    if config.experiment == ALL:
        return list(EXPERIMENTS.values())
    return [find_experiment(config.experiment)]


def _executor(config: ReproduceConfig, folder: Path) -> Execute:
    if config.ray is None:
        return in_process(folder, Models())
    from taskvectors.experiments.on_ray import on_ray

    return on_ray(config.ray, gpus=config.gpus)


@dataclass(frozen=True, kw_only=True, eq=False)
class _By:
    """What all experiments of a call are run by."""

    execute: Execute
    estimator: Estimator


def _run(
    experiment: Experiment,
    config: ReproduceConfig,
    folder: Path,
    by: _By,
    command: Sequence[str],
) -> Record:
    name, preset = experiment.name, config.preset_for(experiment)
    jobs = _jobs(experiment, preset)
    asked = {"experiment": name, "preset": preset.model_dump(mode="json")}
    for task in config.tasks if preset.models else ():
        load_task(task, seed=preset.seeds[0])  # what is wrong is said before there is a folder
    inputs = _inputs(preset)
    with open_run(folder, kind="experiment", asked=asked) as run_folder:
        run_folder.check_made_from(inputs)
        run_folder.begin()
        models = ", ".join(model.source for model in preset.models) or "learners"
        on, seeds = ", ".join(preset.tasks), ", ".join(map(str, preset.seeds))
        logger.info("%s: %d group(s) of %s on %s, seeds %s", name, len(jobs), models, on, seeds)
        cells = {job.unit.key: run_folder.cell(job.unit.key) for job in jobs}
        missing = [job for job in jobs if cells[job.unit.key] is None]
        if len(missing) < len(jobs):
            logger.info(
                "%s: %d of %d groups finished before", name, len(jobs) - len(missing), len(jobs)
            )
        about = _describe(experiment, config, preset, command)
        try:
            failed = run_missing(_told_cost(missing, by), run_folder, by.execute, cells)
        except KeyboardInterrupt:
            run_folder.write(_record(experiment, jobs, cells, about, ()))
            logger.info(
                "Stopped. What is finished is kept; the same command with --out %s goes on", folder
            )
            raise
        about |= {"groups": len(jobs), "groups_failed": len(failed), "finished": now()}
        return run_folder.write(_record(experiment, jobs, cells, about, failed))


def _inputs(preset: Preset) -> dict[str, str]:
    """What the groups are made from, as far as it can change: files, data sets and weights."""
    found = inputs_of_versions()
    for task in preset.tasks:
        found |= inputs_of_named_task(task, preset.seeds)
    for model in preset.models:
        found |= inputs_of_source(model.source, model.revision)
    return found


def _record(
    experiment: Experiment,
    jobs: Sequence[Job],
    cells: Mapping[str, Cell | None],
    about: Mapping[str, Any],
    failed: Sequence[str],
) -> Record:
    """What the finished groups gave, with rows for all tasks together."""
    done = [(job.unit, cell) for job in jobs if (cell := cells[job.unit.key]) is not None]
    rows = [row for _, cell in done for row in cell.rows]
    frame = frame_of([*rows, *over_tasks(frame_of(rows))])
    figures = experiment.figures(frame) if rows and experiment.figures is not None else []
    for unit, cell in done:
        figures += [_named_for(figure, unit) for figure in cell.figures]
    notes = dict.fromkeys(note for _, cell in done for note in cell.metadata["weights_notes"])
    warnings = [f"{unit.key}: {said}" for unit, cell in done for said in cell.warnings]
    costs = [Cost(**c) for _, cell in done if (c := cell.metadata["estimate"]) is not None]
    known = len(costs) == len(done)
    return Record(
        kind="experiment",
        metadata={
            **about,
            "methods": about_methods(str(row["method"]) for row in rows),
            "seconds": sum(cell.metadata["seconds"] for _, cell in done),
            "estimate": asdict(total(costs)) if known else None,
        },
        frame=frame,
        curves=pd.DataFrame([line for _, cell in done for line in cell.curves]),
        figures=tuple(figures),
        published=_published(experiment, about["recipe"]),
        warnings=(*notes, *warnings, *failed),
    )


def _published(experiment: Experiment, recipe: str) -> tuple[Published, ...]:
    """What the paper reports; where ours is trained otherwise, its values say so."""
    if recipe == "paper":
        return experiment.published
    otherwise = f"trained as published; ours by --recipe {recipe}"
    return tuple(
        replace(value, note="; ".join(filter(None, (value.note, otherwise))))
        if value.method == "learned"
        else value
        for value in experiment.published
    )


def _named_for(figure: AnyFigure, unit: RunUnit) -> AnyFigure:
    """A group's figure, told from the same one of another group."""
    title = f"{figure.title}: {unit.task}, seed {unit.seed}"
    return replace(figure, name=f"{figure.name}-{unit.key}", title=title)


def _told_cost(missing: Sequence[Job], by: _By) -> list[Job]:
    """Groups with what they will take, which is told before they are run, or why it is not known.

    A group that was begun before is counted as a whole.
    """
    if not missing:
        return []
    name, known = missing[0].experiment.name, len(by.estimator.left_out)
    try:
        costs = estimated(missing, by.estimator)
    except TaskVectorsError as error:
        logger.info("%s: not estimated: %s", name, error)
        return list(missing)
    cost = total(costs, name)
    said = f"about {format_duration(cost.seconds)} and {readable(cost.peak_bytes)} at the peak"
    logger.info("%s: estimated for this machine: %s", name, said)
    for left_out in dict.fromkeys(by.estimator.left_out[known:]):
        logger.info("%s: not estimated: %s", name, left_out)
    return [replace(job, estimate=cost) for job, cost in zip(missing, costs, strict=True)]


def _jobs(experiment: Experiment, preset: Preset) -> list[Job]:
    units = experiment.units(experiment.name, preset)
    keys = [unit.key for unit in units]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise TaskVectorsError(
            f"{experiment.name}: two models or tasks are called alike, as in {twice[0]}; give "
            "folders and files names of their own"
        )
    return [Job(experiment=experiment, unit=unit, preset=preset) for unit in units]


def _describe(
    experiment: Experiment, config: ReproduceConfig, preset: Preset, command: Sequence[str]
) -> dict[str, Any]:
    """What was run, for `config.json` and the report."""
    device = preset.models[0].device if preset.models else None
    models = [model.source for model in preset.models] or ["learners from scratch"]
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "shown": list(experiment.shown),
        "shows_candidates": experiment.shows_candidates,
        "question": experiment.question,
        "paper": experiment.paper,
        "what_the_paper_did": experiment.what_the_paper_did,
        "what_we_do_otherwise": experiment.what_we_do_otherwise,
        "model": ", ".join(models),
        "models": models,
        "task": ", ".join(preset.tasks),
        "tasks": list(preset.tasks),
        "seeds": list(preset.seeds),
        "preset": config.preset,
        "recipe": preset.recipe,
        "command": list(command),
        "versions": versions(),
        "device": device or first_device(),
        "ray": config.ray is not None,
    }
