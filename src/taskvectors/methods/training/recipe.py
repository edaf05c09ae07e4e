"""How something is trained: everything but what and where; by name, from a file, or as values."""

import json
import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from taskvectors.errors import TaskVectorsError

_MOST_BYTES = 65_536
"""A recipe has some hundred bytes; a larger file is something else."""


class TrainingSteps(BaseModel):
    """How long something is trained, and when it stops."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )
    steps: int = Field(default=200, ge=1)
    """Most gradient steps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per step."""
    check_every: int = Field(default=10, ge=1)
    """Steps between looks at the validation split."""
    patience: int | None = Field(default=5, ge=1)
    """Checks without improvement after which training stops; never if None."""

    @property
    def n_checks(self) -> int:
        """Checks on validation, the one after the last step included."""
        return -(-self.steps // self.check_every)


class Recipe(TrainingSteps):
    """Everything about the training but the sites; without arguments the default one, `ours`."""

    learning_rate: float = Field(default=0.003, gt=0)
    """Of AdamW; in units of the residual stream's root mean square if `rate` is relative."""
    rate: Literal["relative", "absolute"] = "relative"
    """Whether the learning rate, decay and initialisation act on θ / s or on θ."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls."""
    schedule_steps: int | None = Field(default=None, ge=1)
    """Steps over which it falls to zero; `steps` by default."""
    initialisation: Literal["zero", "uniform", "normal", "extracted"] = "extracted"
    """Where the vector starts: `extracted` is what `vanilla` gives at the same sites, its parts
    divided as a relative rate is. Where no demonstrations can be shown, or the prompts have their
    own, the start is zero, and what else is as in `ours` is as in `from-zero`."""
    scale: float = Field(default=0.1, ge=0)
    """Half-width of a uniform start, standard deviation of a normal one."""
    answer: Literal["all-tokens", "first-token"] = "all-tokens"
    """Which tokens of the answer the loss averages over."""
    distillation: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that is KL(few-shot run || this run) at the answer; the rest is the label's
    negative log-probability."""
    penalty: Literal["none", "orthogonality", "sparsity"] = "none"
    """What is added to the loss where a vector has several sites: the mean squared cosine of their
    parts, or the mean norm of the parts, which empties sites that do little."""
    penalty_weight: float = Field(default=0.1, ge=0)
    """Factor of the penalty."""
    learn_strength: bool = False
    """Learn one factor of the whole vector beside its values: θ = s·a·u, a from 1 on."""


class OwnTraining(TrainingSteps):
    """The config of a method with an optimiser of its own, whose learning rate is absolute."""

    n_examples: int | None = Field(default=None, ge=1)
    """Training pairs to use; all by default."""

    def recipe(self, learning_rate: float, **further: Any) -> Recipe:
        """The same as a recipe."""
        shared = {name: getattr(self, name) for name in TrainingSteps.model_fields}
        return load_recipe(
            "from-zero", learning_rate=learning_rate, rate="absolute", **shared, **further
        )


FROM_ZERO: dict[str, Any] = {"initialisation": "zero", "distillation": 0.0}
"""Neither start nor loss has anything of the few-shot run, as in the papers."""

RECIPES: dict[str, Recipe] = {
    "ours": Recipe(),  # at late layers training from zero overfits: docs/decisions/0019
    "from-zero": Recipe(**FROM_ZERO, learning_rate=0.01),
    # the text of arXiv 2509.24169; what it does not say is ours
    "paper": Recipe(
        **FROM_ZERO,
        rate="absolute",
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="constant",
        steps=1000,
        patience=10,
    ),
    # the released code, as reimplementations report it: batch 1, at most 10 rounds of 100 sampled
    # queries, linear decay over 6,000 steps of which 1,000 run, first answer token only
    "released-code": Recipe(
        **FROM_ZERO | {"initialisation": "uniform"},
        rate="absolute",
        learning_rate=5e-3,
        weight_decay=0.01,
        steps=1000,
        batch_size=1,
        schedule="linear",
        schedule_steps=6000,
        scale=0.1,
        answer="first-token",
        check_every=100,
        patience=2,
    ),
}
"""Recipes by name."""


def load_recipe(recipe: str | Path | Recipe, **changes: Any) -> Recipe:
    """A recipe by its name, from a YAML or JSON file of its fields, or as it is.

    Args:
        recipe: One of `RECIPES` by its name, or the path of a file. What the file leaves out is
            as in `ours`.
        changes: Fields that are to be otherwise, such as steps=20.

    Raises:
        TaskVectorsError: There is neither such a recipe nor such a file, the file is no YAML or
            JSON, or a field is unknown or has a value that it cannot take.
    """
    if changes:
        return Recipe(**load_recipe(recipe).model_dump() | changes)
    if isinstance(recipe, Recipe):
        return recipe
    if recipe in RECIPES:
        return RECIPES[str(recipe)]
    path = Path(recipe)
    if not os.path.isfile(path):  # noqa: PTH113  (false for what is no name of a file, too)
        raise TaskVectorsError(
            f"there is no recipe {str(recipe)!r}; there are {', '.join(RECIPES)}, or give the path "
            "of a .yaml or .json file"
        )
    try:
        # as JSON has it: no text for a number, no number for a word
        return Recipe.model_validate(_fields_in(path), strict=True)
    except ValidationError as error:
        said = "; ".join(_wrong(one["loc"], one["type"], one["msg"], one["input"])
                         for one in error.errors()[:3])  # fmt: skip
        raise TaskVectorsError(f"{path}: {said}") from error


def _by_name(value: Any) -> Any:
    """A config's recipe: a name, a path object, fields, or a recipe; text is never a path."""
    if isinstance(value, Path):
        return load_recipe(value)
    if isinstance(value, str):
        if value not in RECIPES:
            raise ValueError(
                f"there is no recipe {value!r}; there are {', '.join(RECIPES)}, or give a Path"
            )
        return RECIPES[value]
    return value


NamedRecipe = Annotated[Recipe, BeforeValidator(_by_name)]
"""A recipe that a config also takes by name; what a config holds and writes are its values."""


def _fields_in(path: Path) -> dict[str, Any]:
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise TaskVectorsError(f"{path}: a recipe is a file that ends in .yaml, .yml or .json")
    if path.stat().st_size > _MOST_BYTES:
        raise TaskVectorsError(f"{path}: {path.stat().st_size} bytes are too many for a recipe")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            found = json.loads(text, object_pairs_hook=_once_each)
        else:
            found = yaml.load(text, Loader=_Loader)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise TaskVectorsError(f"{path} cannot be read as {path.suffix[1:]}: {said}") from error
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise TaskVectorsError(f"{path}: a recipe is fields with values, such as `steps: 100`")
    return dict(found)


def _once_each(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands twice; leave one")
        found[name] = value
    return found


class _Loader(yaml.SafeLoader):
    """YAML with 1e-3 as a number, as YAML 1.2 has it, and without fields that stand twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        return _once_each([(self.construct_object(name, deep=True),
                            self.construct_object(value, deep=deep))
                           for name, value in node.value])  # fmt: skip


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _wrong(where: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    """One field that is wrong, and what is expected of it."""
    name = str(where[0])
    if kind == "extra_forbidden":
        return f"a recipe has no field {name!r}; it has {', '.join(Recipe.model_fields)}"
    expected = message.replace("Input should be", "it should be")
    return f"{name}: {expected}, not {reprlib.repr(value)}"
