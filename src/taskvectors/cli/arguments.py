"""Flags that several verbs share, in groups that stay flat on the command line.

A group knows how its words become what the library takes, and nothing else. Words are strings and
numbers here, since help must not wait for torch; what they may be is repeated from the library's
configs, and a test compares the two.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from tyro.conf import arg

from taskvectors.cli.progress import hush_transformers
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from taskvectors.experiments import ModelConfig
    from taskvectors.models import LanguageModel
    from taskvectors.tasks import Task
    from taskvectors.vectors import TaskVector

Config = TypeVar("Config")

logger = logging.getLogger(__name__)

_FLAGS = {
    "source": "model",
    "strengths": "strengths",
    "kind": "methods",
    "learning_rates": "learning_rate",
    "n_layers": "layers",
    "d_model": "width",
    "n_heads": "heads",
    "tvp_from": "icl_steps",
    "n_trials": "trials",
}
"""Fields of configs whose flag has another name."""


def default(text: str) -> Any:
    """What help says of a flag whose default is none of the values it takes."""
    return arg(help_behavior_hint=f"(default: {text})")


@dataclass(frozen=True, kw_only=True)
class TrackerChoice:
    """Who else is told of training."""

    tracker: Annotated[Literal["trackio", "tensorboard", "wandb"] | None, default("none")] = None
    """Tell the curves of training to an experiment tracker, too; wandb offline, in --out."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """How it speaks."""

    json: bool = False
    """Print one JSON object instead of a table."""
    verbose: bool = False
    """Say more on standard error."""
    debug: bool = False
    """Show where an error came from."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model, and how it is loaded."""

    model: str = "embedded"
    """`embedded`, a hub id, a local folder, or a .gguf file."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type to compute in; `auto` is bfloat16 where the processor has it, else float32."""
    device: Annotated[str | None, default("the first GPU, else the CPU")] = None
    """Where the model goes, such as cpu or cuda:1."""
    device_map: Annotated[str | None, default("none")] = None
    """Spread over devices as accelerate does, such as auto; instead of --device."""
    attention: Annotated[str | None, default("the model's own")] = None
    """transformers' attention implementation, such as sdpa or eager."""
    quantization: Annotated[Literal["4bit", "8bit"] | None, default("none")] = None
    """Load in fewer bits, through bitsandbytes."""
    revision: Annotated[str | None, default("the main branch")] = None
    """Commit or branch of a hub model."""
    trust_remote_code: bool = False
    """Run the code that comes with the model; it can do anything, so read it first."""
    memory: Annotated[str | None, default("half of what is free")] = None
    """Memory to work in, such as 4GB."""

    def config(self) -> "ModelConfig":
        """The same for the library."""
        hush_transformers(self.model)
        from taskvectors.experiments import ModelConfig

        return checked(
            ModelConfig,
            source=self.model,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            attention=self.attention,
            quantization=self.quantization,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
        )

    def budget(self, model: "LanguageModel") -> int | None:
        """The memory in bytes, where it was stated."""
        from taskvectors.trunk import resolve_budget

        return None if self.memory is None else resolve_budget(self.memory, model.device)


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """What is shown to the model, and how."""

    task: str
    """A built-in task (`taskvectors tasks`), a file of input/output pairs, or hub:OWNER/NAME."""
    template: Annotated[str | None, default("the task's own")] = None
    """Name of a prompt template, or a text with {input} and {output}."""
    chat: bool = False
    """Write prompts with the tokenizer's chat template."""
    n_train: int = 300
    """Pairs to learn from."""
    n_validation: int = 100
    """Pairs to choose on."""
    n_test: int = 200
    """Pairs to report on."""
    input_column: str = "input"
    """Column of a file, or of a data set of the hub, with what is asked."""
    output_column: str = "output"
    """Column with the answer."""
    labels: Annotated[
        tuple[str, ...], arg(metavar="VALUE=WORD ...", help_behavior_hint="(default: as they are)")
    ] = ()
    """The word for each value of the output column, such as 0=negative 1=positive."""
    strip: bool = False
    """Remove blanks at the ends of inputs and answers; without it they are an error."""

    def reading(self) -> dict[str, Any]:
        """How columns are read, as arguments of `load_task` and fields of configs.

        Raises:
            TaskVectorsError: A label is not VALUE=WORD, or has two words.
        """
        words: dict[str, str] = {}
        for text in self.labels:
            value, sign, word = text.partition("=")
            if not (value and sign and word):
                raise TaskVectorsError(
                    f"--labels: {text!r} is no VALUE=WORD; give such as 0=negative 1=positive"
                )
            if words.setdefault(value, word) != word:
                raise TaskVectorsError(
                    f"--labels: {value} has two words, {words[value]} and {word}"
                )
        return {
            "input_column": self.input_column,
            "output_column": self.output_column,
            "labels": words,
            "strip": self.strip,
        }

    def load(self, seed: int) -> "Task":
        """The task, split by a seed."""
        from taskvectors.tasks import load_task

        return load_task(
            self.task,
            seed=seed,
            n_train=self.n_train,
            n_validation=self.n_validation,
            n_test=self.n_test,
            **self.reading(),
        )


@dataclass(frozen=True, kw_only=True)
class VectorModelChoice(ModelChoice):
    """Which model, where a vector says it."""

    model: Annotated[str, default("the vector's own")] = ""
    """`embedded`, a hub id, a local folder, or a .gguf file."""

    def config_for(self, vector: "TaskVector") -> "ModelConfig":
        """The model that was named, else the one that the vector was made for.

        Raises:
            TaskVectorsError: There is neither.
        """
        source = self.model or vector.origin.location or vector.origin.model
        if not source:
            raise TaskVectorsError(
                f"{vector.origin.label} does not say which model it was made for; name it with "
                "--model"
            )
        revision = self.revision
        if not self.model and re.fullmatch("[0-9a-f]{40}", vector.origin.revision):
            revision = revision or vector.origin.revision  # of a model of the hub
        return replace(self, model=source, revision=revision).config()


@dataclass(frozen=True, kw_only=True)
class VectorTaskChoice:
    """What is shown to the model, where a vector says it."""

    task: Annotated[str, default("the vector's own")] = ""
    """A built-in task, a file of input/output pairs, or hub:OWNER/NAME."""
    template: Annotated[str | None, default("the vector's own")] = None
    """Name of a prompt template, or a text with {input} and {output}."""
    chat: bool = False
    """Write prompts with the tokenizer's chat template, as for a vector that was made so."""
    n_train: Annotated[int | None, default("the vector's own")] = None
    """Pairs of the training split."""
    n_validation: Annotated[int | None, default("the vector's own")] = None
    """Pairs of the validation split."""
    n_test: Annotated[int | None, default("the vector's own")] = None
    """Pairs of the test split."""
    seed: Annotated[int | None, default("the vector's own")] = None
    """Seed of split and demonstrations."""
    allow_overlap: bool = False
    """Measure also on pairs that the vector was trained on."""

    def changes(self) -> dict[str, int]:
        """What was asked for, as fields of a `TaskRequest`."""
        names = ("n_train", "n_validation", "n_test", "seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class SiteChoice:
    """Where vectors go."""

    layers: Annotated[
        tuple[str, ...], arg(metavar="LAYER ...", help_behavior_hint="(default: every layer)")
    ] = ()
    """Layers of one vector, counted from 0; 4-9 is a range, `embed` the one below block 0."""
    each_layer: bool = False
    """One vector for each of --layers; without --layers that is so anyway."""
    positions: Annotated[tuple[str, ...], arg(metavar="POSITION ...")] = ("-1",)
    """Tokens of the prompt: numbers, negative ones from its end, or names such as last."""

    def config(self) -> dict[str, Any]:
        """The same as fields of a method's config."""
        return {
            "layers": self.layers or None,
            "each_layer": self.each_layer,
            "positions": self.positions,
        }


@dataclass(frozen=True, kw_only=True)
class TrainingChoice:
    """How a vector is learned; what is not given is as the recipe has it."""

    recipe: Annotated[str, arg(metavar="NAME|FILE")] = "ours"
    """`ours`, `from-zero`, `paper`, `released-code`, or a .yaml or .json file of a recipe's
    fields, such as schedule, initialisation, weight_decay, patience."""
    steps: Annotated[int | None, default("the recipe's")] = None
    """Most gradient steps."""
    learning_rate: Annotated[float | None, default("the recipe's")] = None
    """Learning rate of AdamW."""
    batch_size: Annotated[int | None, default("the recipe's")] = None
    """Prompts per step."""
    distillation: Annotated[float | None, default("the recipe's")] = None
    """Share of the loss that is the divergence from the few-shot run, from 0 to 1."""
    n_examples: Annotated[int | None, default("all")] = None
    """Training pairs to learn from."""
    train_shots: int = 0
    """Demonstrations in the prompts that it is trained and used on."""

    def config(self, kind: "type[BaseModel]") -> dict[str, Any]:
        """The same as fields of a method's config.

        A named recipe is of one method; a file and flags are of every method that trains.

        Args:
            kind: The config: with a recipe as one field, or with fields of its own.
        """
        from taskvectors.methods import Recipe, load_recipe
        from taskvectors.methods.training.recipe import RECIPES

        recipe = load_recipe(self.recipe)
        flags = ("steps", "learning_rate", "batch_size", "distillation")
        given = {name: getattr(self, name) for name in flags if getattr(self, name) is not None}
        if getattr(kind, "has_named_recipes", False):
            given = recipe.model_dump() | given
        elif self.recipe not in RECIPES:
            given = recipe.model_dump(exclude_unset=True) | given
        elif self.recipe != "ours" and kind.model_fields.keys() & {"recipe", "steps"}:
            name = kind.model_fields["kind"].default
            logger.warning("--recipe %s says nothing to %s, which trains its own way",
                           self.recipe, name)  # fmt: skip
        about = given | {"n_examples": self.n_examples}
        if "learning_rate" in given:
            about["learning_rates"] = (given["learning_rate"],)
        if "recipe" in kind.model_fields:
            about |= {"train_shots": self.train_shots, "recipe": checked(Recipe, **given)}
        return about


def method_config(
    name: str,
    sites: SiteChoice,
    training: TrainingChoice | None = None,
    *,
    strengths: tuple[float, ...] = (),
    library: str = "",
) -> Any:
    """The config of any method, from the flags that its config has a field for.

    Args:
        name: The method.
        sites: Where vectors go.
        training: How they are learned.
        strengths: Factors that extracted vectors are tried with; the method's own by default.
        library: Folder that the method library retrieves from.
    """
    from taskvectors.methods import METHODS

    kind = METHODS.find(name).config
    given = sites.config()
    given |= {"strengths": strengths} if strengths else {}
    given |= {"folder": library} if library else {}
    given |= {} if training is None else training.config(kind)
    return checked(kind, **{key: given[key] for key in kind.model_fields if key in given})


def checked(kind: Callable[..., Config], **values: Any) -> Config:
    """A config of the library made of flags.

    Raises:
        TaskVectorsError: A value is not one that it takes; the message names the flag.
    """
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = next((str(part) for part in first["loc"] if isinstance(part, str)), "")
        flag = f"--{_FLAGS.get(name, name).replace('_', '-')}: " if name else ""
        is_ours = first["type"] == "value_error"  # what a config itself says names the value
        said = str(first["ctx"]["error"]) if is_ours else f"{first['msg']}, not {first['input']!r}"
        raise TaskVectorsError(f"{flag}{said}") from error
