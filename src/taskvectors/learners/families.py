"""Families of tasks by name: one file each under `tasks/`, registered once.

A family of your own comes in through `taskvectors.learners.register(Family(...))`, an entry point
of the group `taskvectors.families`, or the path of a Python file that names it `FAMILY`.
"""

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.config import TrainingConfig, VariantsConfig
from taskvectors.learners.family import TaskFamily
from taskvectors.learners.shape import LearnerShape
from taskvectors.methods import Paper
from taskvectors.registry import FAMILIES as _FAMILIES
from taskvectors.registry import Registry

YANG = Paper(
    "Yang, Lin, Lee, Papailiopoulos, Nowak",
    2025,
    "Task Vectors in In-Context Learning: Emergence, Formation, and Benefit",
    "https://arxiv.org/abs/2501.09240",
)
DEFAULT_PRESET = "cpu"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything the program knows of a family of tasks.

    Attributes:
        config: What draws: a frozen pydantic model that is a `TaskFamily`. The default of its
            field `kind` is the family's name.
        summary: The task, in half a line.
        papers: What to cite for it.
        presets: What a run starts from, by the name that `train --preset` takes.
        quick: Settings with which it takes a moment.
    """

    config: type[BaseModel]
    summary: str = ""
    papers: tuple[Paper, ...] = ()
    presets: Mapping[str, VariantsConfig] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return str(self.config.model_fields["kind"].default)

    @property
    def citation(self) -> str:
        """Its papers as references; empty where there is none."""
        return "; ".join(f"{paper.text} {paper.address}" for paper in self.papers)


FAMILIES: Registry[Family] = _FAMILIES
"""Families by the name the command line uses."""


def find_family(name: str) -> Family:
    """A family's row.

    Args:
        name: A registered family, or the path of a Python file whose `FAMILY` is a row, or a class
            that draws.

    Raises:
        TaskVectorsError: There is no such family.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    try:
        return FAMILIES.find(name)
    except TaskVectorsError as error:
        raise TaskVectorsError(f"{error}; or give the path of a file that names FAMILY") from None


_LARGEST_SIZE = 100_000


def load_family(name: str, settings: Mapping[str, Any] | None = None) -> TaskFamily:
    """A family with some of its settings changed.

    Args:
        name: As `find_family` takes it.
        settings: Values of its fields; the rest are its defaults.

    Raises:
        TaskVectorsError: There is no such family, or it does not take a value.
    """
    kind = find_family(name).config
    for key, value in (settings or {}).items():
        is_size = isinstance(value, int | float) and "seed" not in key
        if is_size and abs(value) > _LARGEST_SIZE:
            raise TaskVectorsError(
                f"the family {name!r} does not take {key} = {value!r}: sizes of tasks end at "
                f"{_LARGEST_SIZE:,}"
            )
    try:
        family = kind(**(settings or {}))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(field for field in kind.model_fields if field != "kind")
        raise TaskVectorsError(
            f"the family {name!r} does not take {'.'.join(map(str, first['loc']))} = "
            f"{first['input']!r}: {first['msg']}; it has {known}"
        ) from error
    if not isinstance(family, TaskFamily):
        raise TaskVectorsError(
            f"{kind.__name__} in {name} is no family of tasks; what one has to have is in "
            "taskvectors.learners.family.TaskFamily"
        )
    return family


def preset_of(task: str, preset: str = DEFAULT_PRESET) -> VariantsConfig:
    """What a run on a family starts from; a family without presets starts from the defaults.

    Args:
        task: As `find_family` takes it.
        preset: Name of one of its presets.

    Raises:
        TaskVectorsError: There is no such family, or it has no such preset.
    """
    presets = find_family(task).presets or {DEFAULT_PRESET: VariantsConfig(task=task)}
    if preset not in presets:
        raise TaskVectorsError(
            f"the family {task!r} has no preset {preset!r}; it has {', '.join(presets)}"
        )
    return presets[preset].model_copy(update={"task": task})


def variants_config(task: str, preset: str = DEFAULT_PRESET, **changes: Any) -> VariantsConfig:
    """A preset with some fields changed.

    Args:
        task: A family, or the path of a file that has one.
        preset: Name of the preset to start from.
        changes: Fields of `VariantsConfig`, `TrainingConfig` and `LearnerShape`; `settings` adds to
            the preset's.

    Raises:
        TaskVectorsError: There is no such family, preset or field.
        ValidationError: A value is not one that a field takes.
    """
    start = preset_of(task, preset)
    left = dict(changes)

    def of(kind: Any) -> dict[str, Any]:
        return {name: left.pop(name) for name in kind.model_fields if name in left}

    variants, training, shape = of(VariantsConfig), of(TrainingConfig), of(LearnerShape)
    if left:
        names = [
            name
            for kind in (VariantsConfig, TrainingConfig, LearnerShape)
            for name in kind.model_fields
        ]
        name = next(iter(left))
        close = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names)}"
        raise TaskVectorsError(f"a learner has no setting {name!r}; {hint}")
    if shape:
        training["shape"] = LearnerShape(**start.training.shape.model_dump() | shape)
    if training:
        variants["training"] = TrainingConfig(**start.training.model_dump() | training)
    if "settings" in variants:
        variants["settings"] = start.settings | variants["settings"]
    return VariantsConfig(**start.model_dump() | variants)


def _from_file(path: Path) -> Family:
    """The row of a user's file."""
    spec = importlib.util.spec_from_file_location(f"taskvectors_family_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TaskVectorsError(f"there is no file {path}; give a family's name or its file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "FAMILY", None)
    if isinstance(found, Family):
        return found
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise TaskVectorsError(
            f"{path} names no FAMILY; it is to be a taskvectors.learners.Family, or a pydantic "
            "model that draws"
        )
    return Family(config=found)
