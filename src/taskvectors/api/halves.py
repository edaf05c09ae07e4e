"""The second half of an extracted vector: states of several prompts as one vector."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from taskvectors.api.border import as_tuple
from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.layers import LayerName, layer_groups
from taskvectors.models import EMBED, LanguageModel
from taskvectors.trunk import Operation, Position
from taskvectors.vectors import TaskVector, VectorOrigin, sites_at


def aggregate(
    model: LanguageModel,
    states: Float[Tensor, "layer prompt d_model"],
    baseline: Float[Tensor, "layer prompt d_model"] | None = None,
    *,
    layers: LayerName | Sequence[LayerName],
    positions: Position | Sequence[Position] = -1,
    operation: Operation = "add",
    **about: Any,
) -> TaskVector:
    """The mean of states over prompts, less that of a baseline, as a vector.

    Args:
        model: The model that was read.
        states: What `read_states` gives, of few-shot prompts, say.
        baseline: States of other prompts, such as the same queries without demonstrations.
        layers: Layers to take and to put back.
        positions: Where it goes.
        operation: `add`, `replace` or `rotate`.
        about: Further fields of `VectorOrigin`, such as `task` and `template`.

    Raises:
        TaskVectorsError: The states are not of this model's layers.

    Example:
        vector = tv.aggregate(model, tv.read_states(model, shown), tv.read_states(model, plain),
                              layers=9)
    """
    for one in (states, baseline):
        if one is not None and (one.shape[0], one.shape[2]) != (model.n_layers + 1, model.d_model):
            raise TaskVectorsError(
                f"the states are {list(one.shape)}; of {model.source} they are "
                f"[{model.n_layers + 1}, prompts, {model.d_model}], as read_states gives them"
            )
    mean = states.mean(dim=1) if baseline is None else states.mean(dim=1) - baseline.mean(dim=1)
    (chosen,) = layer_groups(model, layers, each_layer=False)
    sites = sites_at(chosen, as_tuple(positions))
    return TaskVector(
        values=mean[[site.layer - EMBED for site in sites]].float().cpu(),
        sites=sites,
        operation=operation,
        origin=VectorOrigin.of_model(model, **{"method": "aggregate"} | about),
    )
