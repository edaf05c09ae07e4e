"""What is explained: a vector, the model it acts in, and the prompts of its task.

Analyses themselves are pure functions of a model, prompts and a vector. A case holds what they are
called with, so that every analysis of a run sees the same prompts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.methods import RunContext
from taskvectors.methods.shared.run_context import Split
from taskvectors.models import LanguageModel
from taskvectors.models.structure import missing_part
from taskvectors.prompts import Prompt
from taskvectors.trunk.edits import start_layer
from taskvectors.vectors import TaskVector

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A vector in its task; several where an analysis compares vectors.

    Attributes:
        context: The model and the task, with its prompts by split and number of demonstrations.
        vector: The vector that is explained.
        vectors: All vectors that were given, `vector` among them.
        other: Another task's vector at the same sites, with that task's context; None if there is
            none.
        limit: Most prompts of a split that analyses use, the first ones.
    """

    context: RunContext
    vector: TaskVector
    vectors: tuple[TaskVector, ...] = ()
    other: "Case | None" = None
    limit: int = 100
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> LanguageModel:
        """The model."""
        return self.context.model

    def prompts(self, split: Split, shots: int = 0) -> tuple[Prompt, ...]:
        """The first prompts of a split."""
        return self.context.prompts(split, shots)[: self.limit]

    def cached(self, name: str, find: Callable[[], Found]) -> Found:
        """Return what is kept under a name; call `find` the first time."""
        if name not in self._memo:
            self._memo[name] = find()
        found: Found = self._memo[name]
        return found


def added_layers(vector: TaskVector, analysis: str) -> tuple[int, ...]:
    """The layers of a vector that is added to the residual stream at the last token.

    Formulas about what heads and MLPs read at the last position have a meaning for such vectors
    alone: other positions act through keys and values of their own, and a replaced state has no
    part that is the vector's.

    Args:
        vector: The vector.
        analysis: What is asked, for the message.

    Raises:
        TaskVectorsError: It is added elsewhere, or replaces.
    """
    wrong = [
        str(site) for site in vector.sites if site.place[1] != "resid_post" or site.place[2] != -1
    ]
    if vector.operation != "add" or wrong:
        what = f"at {wrong[0]}" if wrong else "put in place of the residual stream"
        raise TaskVectorsError(
            f"{analysis} has no meaning for {vector.origin.label}, which is {what}: it is defined "
            "for vectors added to the residual stream at the last token (position -1). Learn or "
            "extract one with --positions -1"
        )
    return tuple(sorted(site.place[0] for site in vector.sites))


def one_layer(vector: TaskVector, analysis: str) -> int:
    """The layer of a vector that is added at one layer, at the last token.

    Raises:
        TaskVectorsError: It has several layers, or is added elsewhere, or replaces.
    """
    layers = added_layers(vector, analysis)
    if len(layers) > 1:
        raise TaskVectorsError(
            f"{analysis} has no meaning for {vector.origin.label}, which is added at layers "
            f"{', '.join(map(str, layers))}: it follows one vector up from one layer. Explain a "
            "vector of one layer"
        )
    return layers[0]


def blocks_above(model: LanguageModel, vector: TaskVector, analysis: str) -> range:
    """The blocks that a vector's lowest layer lies below.

    Raises:
        TaskVectorsError: There is none, or the model's blocks are no sums of their parts.
    """
    layers = added_layers(vector, analysis)
    if layers[0] + 1 >= model.n_layers:
        raise TaskVectorsError(
            f"{analysis} has no meaning for {vector.origin.label}: no block lies above layer "
            f"{layers[0]}, the last one of {model.source}. Explain a vector of a lower layer"
        )
    if model.is_post_norm:
        raise TaskVectorsError(
            f"{analysis} has no meaning for {model.source}: a norm follows each sum, so what heads "
            "and MLPs add does not stay in the residual stream"
        )
    return range(layers[0] + 1, model.n_layers)


def blocks_with_heads(model: LanguageModel, layers: Iterable[int]) -> list[int]:
    """Those of some blocks whose heads write a `z` that can be read and edited."""
    return [
        layer
        for layer in layers
        if (parts := model.parts(layer)).heads is not None and parts.output_projection is not None
    ]


def heads_above(model: LanguageModel, vector: TaskVector, analysis: str) -> list[int]:
    """The blocks whose heads can read a vector, wherever it acts; a hybrid has others between.

    Raises:
        TaskVectorsError: No block lies above the vector.
        UnsupportedModelError: None of them has heads.
    """
    lowest = start_layer(vector.edits(), model.n_layers) + 1
    if lowest >= model.n_layers:
        raise TaskVectorsError(
            f"{analysis} has no meaning for {vector.origin.label}: no head of {model.source} lies "
            "above it. Explain a vector of a lower layer"
        )
    found = blocks_with_heads(model, range(lowest, model.n_layers))
    if not found:
        raise UnsupportedModelError(missing_part(model.source, lowest, "heads"))
    return found
