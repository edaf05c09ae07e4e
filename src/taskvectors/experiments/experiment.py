"""What an experiment is: a table or figure of a paper as data, and one function that runs a part.

An experiment is a grid of cells (model, task, method, site, seed). Cells that share a trunk, which
are those of one model, task and seed, are one `RunUnit`: they run together, and are kept or lost
together. A run of an experiment is its groups, in any order and in any place.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field

from taskvectors.costs import Cost
from taskvectors.experiments.config import Loader, ModelConfig
from taskvectors.experiments.estimates import Estimator
from taskvectors.learners.families import find_family
from taskvectors.registry import EXPERIMENTS as _EXPERIMENTS
from taskvectors.registry import Registry
from taskvectors.results import Cell, Measurement, Published, Record
from taskvectors.results.figures import AnyFigure
from taskvectors.results.record import rows_of
from taskvectors.tasks import load_task
from taskvectors.tasks.hub import PREFIX

PresetName = Literal["smoke", "cpu", "paper"]
RecipeName = Literal["from-zero", "paper", "released-code"]
PRESETS: tuple[PresetName, ...] = ("smoke", "cpu", "paper")
"""Small random models, seconds; the embedded model, two cores; the paper's sizes, GPUs."""

LTV_PAPER = (
    "Yang, Cho, Ding, Inoue: Task Vectors, Learned Not Extracted: Performance Gains and "
    "Mechanistic Insights. ICLR 2026, arXiv 2509.24169"
)
TVP_PAPER = (
    "Yang, Lin, Lee, Papailiopoulos, Nowak: Task Vectors in In-Context Learning: Emergence, "
    "Formation, and Benefit. COLM 2025, arXiv 2501.09240"
)


class Preset(BaseModel):
    """How large an experiment is run. What an experiment does not use is ignored by it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    models: tuple[ModelConfig, ...] = ()
    """Models; none where learners are trained from scratch."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks, or families of tasks."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of split, demonstrations and initialisation."""
    shots: int = Field(default=8, ge=1)
    """Demonstrations in a few-shot prompt."""
    n_train: int = Field(default=300, ge=1)
    """Training pairs."""
    n_validation: int = Field(default=100, ge=1)
    """Validation pairs."""
    n_test: int = Field(default=200, ge=1)
    """Test pairs."""
    steps: int = Field(default=200, ge=1)
    """Most steps of learning a vector from zero, or an adapter."""
    recipe: RecipeName = "from-zero"
    """How vectors are learned; a published recipe has steps of its own."""
    limit: int = Field(default=100, ge=2)
    """Most prompts of a split that an analysis uses."""
    depths: tuple[float, ...] = (0.5,)
    """Where vectors sit, as shares of the model's depth."""
    memory: str | None = None
    """Memory to use, such as 4GB."""
    sizes: str = "cpu"
    """Preset of the families, as `taskvectors train --preset` has it."""
    shrink: int = Field(default=1, ge=1)
    """Learners are trained in this many times fewer steps than their preset says."""
    n_trials: int = Field(default=1280, ge=2)
    """Trials that learners are measured on."""


@dataclass(frozen=True, kw_only=True)
class RunUnit:
    """The cells of one model, one task (or several that are compared) and one seed."""

    experiment: str
    model: ModelConfig | None
    """None where a learner is trained."""
    tasks: tuple[str, ...]
    seed: int
    part: str = ""
    """What else tells groups of an experiment apart."""

    @property
    def task(self) -> str:
        """The task, or all tasks in one word."""
        return "+".join(self.tasks)

    @property
    def key(self) -> str:
        """A name for files: the same words give the same name."""
        model = "learner" if self.model is None else Path(self.model.source).name
        words = (model, *(Path(task).name for task in self.tasks), self.part, f"seed{self.seed}")
        return "-".join(re.sub(r"[^\w.]+", "-", word).strip("-.") for word in words if word)


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """What the cells of a group gave."""

    measurements: Sequence[Measurement] = ()
    record: Record | None = None
    """Of the comparison or the analyses that it ran; its rows and figures are the group's, too."""
    figures: Sequence[AnyFigure] = ()
    warnings: Sequence[str] = ()

    def cell(
        self, unit: "RunUnit", curves: Sequence[Mapping[str, Any]] = (), **metadata: Any
    ) -> Cell:
        """What is kept of it: its rows are those of the group.

        Args:
            unit: The group.
            curves: What was logged in training, where its record does not have it.
            metadata: What else is kept.
        """
        model = "learner" if unit.model is None else unit.model.source
        shared = {"experiment": unit.experiment, "seed": unit.seed, "group": unit.key}
        own = [one.as_row(task=unit.task) for one in self.measurements]
        found = [] if self.record is None else rows_of(self.record.frame)
        rows = [row | {"task": unit.task} for row in found] + own
        kept = [] if self.record is None else self.record.curves.to_dict("records")
        logged: Sequence[Mapping[Any, Any]] = kept or curves
        return Cell(
            rows=[row | shared | {"model": str(row.get("learner", model))} for row in rows],
            figures=[*self.figures, *(self.record.figures if self.record else ())],
            warnings=[*self.warnings, *(self.record.warnings if self.record else ())],
            curves=[{**line, "task": unit.task, "group": unit.key} for line in logged],
            metadata=metadata,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkDir:
    """Where a group works."""

    folder: Path
    """Its own: what it keeps there it finds again after it was cut off."""
    shared: Path
    """Of all groups that run here: vectors and learners that several experiments need."""
    load: Loader
    """Gives a model; what was loaded last is kept."""

    @contextmanager
    def locked(self, name: str) -> Iterator[Path]:
        """Lock a folder in `shared` while it is written."""
        folder = self.shared / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            yield folder


def one_task_each(experiment: str, preset: Preset) -> list[RunUnit]:
    """A group for each model, task and seed."""
    return [
        RunUnit(experiment=experiment, model=model, tasks=(task,), seed=seed)
        for model in preset.models or (None,)
        for task in preset.tasks
        for seed in preset.seeds
    ]


def tasks_together(experiment: str, preset: Preset) -> list[RunUnit]:
    """A group for each model and seed, with all tasks."""
    return [
        RunUnit(experiment=experiment, model=model, tasks=preset.tasks, seed=seed)
        for model in preset.models or (None,)
        for seed in preset.seeds
    ]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure of a paper, as data."""

    name: str
    title: str
    question: str
    """What it answers, as a sentence with a question mark."""
    paper: str
    what_the_paper_did: str
    what_we_do_otherwise: str
    presets: Mapping[PresetName, Preset]
    """By preset."""
    run: Callable[[RunUnit, Preset, WorkDir], GroupResult]
    """Runs the cells of one group."""
    estimate: Callable[[RunUnit, Preset, Estimator], Sequence[Cost]]
    """What running a group will take; what other groups have left is not counted again."""
    units: Callable[[str, Preset], list[RunUnit]] = one_task_each
    """What there is to run at some preset."""
    figures: Callable[[pd.DataFrame], list[AnyFigure]] | None = None
    """Figures of all rows together."""
    published: tuple[Published, ...] = ()
    shown: tuple[str, ...] = ("accuracy",)
    """Measures of the table that people are shown; the results have all."""
    shows_candidates: bool = False
    """Whether candidates that were not chosen on validation stand in that table, too."""

    @property
    def has_models(self) -> bool:
        """Whether it runs on language models, and not on learners of its own."""
        return bool(self.presets["cpu"].models)

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Check that tasks are there, before the groups of some of them are run.

        Raises:
            DataError: There is no such task.
            TaskVectorsError: There is no such family.
        """
        own = {task for preset in self.presets.values() for task in preset.tasks}
        for task in tasks:
            if task in own or task.startswith(PREFIX) or Path(task).expanduser().exists():
                continue
            if self.has_models:
                load_task(task)
            else:
                find_family(task)


EXPERIMENTS: Registry[Experiment] = _EXPERIMENTS
"""Experiments by the name the command line uses."""
register = EXPERIMENTS.register
