"""A table or figure of either paper, by name: its groups run, its results gathered.

The same call on the same folder goes on where it stopped. `all` is every experiment, a folder each.
"""

import datetime
import difflib
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from taskvectors._version import __version__
from taskvectors.costs import Cost, total
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments.catalog import EXPERIMENTS
from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import Experiment, PresetName, Scale
from taskvectors.experiments.group_store import GroupStore
from taskvectors.experiments.runner import (
    Execute,
    Job,
    Models,
    estimated,
    in_process,
    run_missing,
)
from taskvectors.progress import format_duration
from taskvectors.trunk.memory import readable

logger = logging.getLogger(__name__)

ALL = "all"


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
    tasks: tuple[str, ...] = ()
    """Tasks, or families of tasks, in place of the preset's."""
    seeds: tuple[int, ...] = ()
    """Seeds in place of the preset's."""
    memory: str | None = None
    """Memory to use, such as 4GB."""
    ray: str | None = None
    """Address of a Ray cluster that runs the groups; this process by default."""
    gpus: int = Field(default=1, ge=0)
    """GPUs that a group takes on the cluster, where it has any."""

    def scale(self, experiment: Experiment) -> Scale:
        """The scale that an experiment is run at.

        Raises:
            TaskVectorsError: A model was given for an experiment that has none.
        """
        base = experiment.scales[self.preset]
        given: dict[str, Any] = {
            "tasks": self.tasks,
            "seeds": self.seeds,
            "memory": self.memory,
            "models": self._models(base) if experiment.has_models else (),
        }
        if self.models and not experiment.has_models and self.experiment != ALL:
            raise TaskVectorsError(
                f"{experiment.name} trains small learners from scratch and takes no --model; leave "
                "it out"
            )
        return base.model_copy(update={name: value for name, value in given.items() if value})

    def _models(self, base: Scale) -> tuple[ModelConfig, ...]:
        asked = tuple(ModelConfig(source=source) for source in self.models) or base.models
        changed = self.loading.model_dump(exclude_defaults=True, exclude={"source"})
        return tuple(model.model_copy(update=changed) for model in asked)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A finished run of one experiment."""

    experiment: Experiment
    folder: Path
    summary: Mapping[str, Any]
    """What was run, as `config.json` holds it."""


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
    say: Callable[[str], None] = logger.info,
    command: Sequence[str] = (),
) -> list[Reproduction]:
    """Run an experiment, or all of them, or go on with what was cut off.

    Args:
        config: What to run.
        folder: The run's folder; with `all`, the folder of one run each.
        say: Told in a sentence what is being done, and how long the rest will take.
        command: The command line that asked for it, where there is one.

    Raises:
        TaskVectorsError: There is no such experiment, or nothing of it could be run.
    """
    is_all, chosen = config.experiment == ALL, _chosen(config)
    by = _By(execute=_executor(config, folder, say), estimator=Estimator(), say=say)
    found = []
    for number, experiment in enumerate(chosen, start=1):
        of = f" ({number} of {len(chosen)})" if is_all else ""
        say(f"{experiment.name}{of}: {experiment.title}")
        where = folder / experiment.name if is_all else folder
        found.append(_run(experiment, config, where, by, command))
    if all(one.summary["groups_failed"] == one.summary["groups"] for one in found):
        raise TaskVectorsError(f"{chosen[0].name}: {found[0].summary['warnings'][-1]}")
    return found


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
        return estimated(_jobs(experiment, config.scale(experiment)), estimator)
    costs = []
    for experiment in _chosen(config):
        try:
            groups = estimated(_jobs(experiment, config.scale(experiment)), estimator)
        except TaskVectorsError as error:
            estimator.left_out.append(f"{experiment.name}: {error}")
        else:
            costs.append(total(groups, experiment.name))
    return costs


def _chosen(config: ReproduceConfig) -> list[Experiment]:
    if config.experiment == ALL:
        return list(EXPERIMENTS.values())
    return [find_experiment(config.experiment)]


def _executor(config: ReproduceConfig, folder: Path, say: Callable[[str], None]) -> Execute:
    if config.ray is None:
        return in_process(folder, Models(), say)
    from taskvectors.experiments.on_ray import on_ray

    return on_ray(config.ray, gpus=config.gpus, say=say)


@dataclass(frozen=True, kw_only=True, eq=False)
class _By:
    """What all experiments of a call are run by."""

    execute: Execute
    estimator: Estimator
    say: Callable[[str], None]


def _run(
    experiment: Experiment,
    config: ReproduceConfig,
    folder: Path,
    by: _By,
    command: Sequence[str],
) -> Reproduction:
    say = by.say
    scale = config.scale(experiment)
    jobs = _jobs(experiment, scale)
    store = GroupStore(folder)
    asked = {"experiment": experiment.name, "scale": scale.model_dump(mode="json")}
    store.open(asked)
    on = ", ".join(model.source for model in scale.models) or "learners"
    say(
        f"{experiment.name}: {len(jobs)} group(s) of {on} on {', '.join(scale.tasks)}, seeds "
        f"{', '.join(map(str, scale.seeds))}"
    )
    groups = [job.group for job in jobs]
    missing = [job for job in jobs if not store.has(job.group)]
    if len(missing) < len(jobs):
        say(f"{experiment.name}: {len(jobs) - len(missing)} of {len(jobs)} groups finished before")
    try:
        failed = run_missing(_told_cost(missing, by), store, by.execute, say)
    except KeyboardInterrupt:
        store.gather(experiment, groups)
        say(f"Stopped. What is finished is kept; the same command with --out {folder} goes on")
        raise
    warnings = store.gather(experiment, groups) + failed
    summary = _describe(experiment, config, scale, command) | {
        "asked": asked,
        "groups": len(jobs),
        "groups_failed": len(failed),
        "warnings": warnings,
        **store.cost(groups),
    }
    store.run.write_json("config.json", summary)
    return Reproduction(experiment=experiment, folder=folder, summary=summary)


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
        by.say(f"{name}: not estimated: {error}")
        return list(missing)
    cost = total(costs, name)
    said = f"about {format_duration(cost.seconds)} and {readable(cost.peak_bytes)} at the peak"
    by.say(f"{name}: estimated for this machine: {said}")
    for left_out in dict.fromkeys(by.estimator.left_out[known:]):
        by.say(f"{name}: not estimated: {left_out}")
    return [replace(job, estimate=cost) for job, cost in zip(missing, costs, strict=True)]


def _jobs(experiment: Experiment, scale: Scale) -> list[Job]:
    groups = experiment.groups(experiment.name, scale)
    keys = [group.key for group in groups]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise TaskVectorsError(
            f"{experiment.name}: two models or tasks are called alike, as in {twice[0]}; give "
            "folders and files names of their own"
        )
    return [Job(experiment=experiment, group=group, scale=scale) for group in groups]


def _describe(
    experiment: Experiment, config: ReproduceConfig, scale: Scale, command: Sequence[str]
) -> dict[str, Any]:
    """What was run, for `config.json` and the report."""
    import transformers

    device = scale.models[0].device if scale.models else None
    models = [model.source for model in scale.models] or ["learners from scratch"]
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
        "task": ", ".join(scale.tasks),
        "tasks": list(scale.tasks),
        "seeds": list(scale.seeds),
        "preset": config.preset,
        "command": list(command),
        "versions": {
            "taskvectors": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "ray": config.ray is not None,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
