"""A vector at every token after block l is a bias on the last linear map of that block.

The map's output is what the MLP adds to the residual stream, so a constant added to one is added to
the other, exactly, unless something lies between: a norm (Gemma 2 and 3, OLMo 2), or no single map
at all (a mixture of experts). A model's own passes decide.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models import LanguageModel
from taskvectors.models.sites import patch_output
from taskvectors.models.trace import few_tokens
from taskvectors.vectors import TaskVector, directions_everywhere, inject, on_the_prompt

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_TOLERANCE_HALF = 5e-2
"""Largest difference of logits, against the largest logit: rounding, and nothing else."""


def biases_of(
    vector: TaskVector, model: LanguageModel, target: str
) -> dict[str, Float[Tensor, " d_model"]]:
    """What to add to the outputs of linear maps, by their full names in the transformers model.

    Args:
        vector: A vector at every token.
        model: The model it was made for.
        target: What is made of it, for messages.

    Raises:
        VectorMismatchError: It was made for another model.
        TaskVectorsError: It does not act at every token, or does not add to blocks' outputs.
        UnsupportedModelError: In this model a bias is not the vector; the message says why.
    """
    vector.check_model(model)
    directions = directions_everywhere(vector, target)
    found = {}
    for layer, value in directions.items():
        parts = model.parts(layer)
        if parts.mlp_last_map is None:
            raise UnsupportedModelError(
                f"block {layer} of {model.source} has no last linear map that every token goes "
                f"through, as in a mixture of experts, so {target} cannot hold the vector"
            )
        inside = parts.mlp_output is not None and (
            parts.mlp_last_map == parts.mlp_output
            or parts.mlp_last_map.startswith(f"{parts.mlp_output}.")
        )
        if not inside:
            raise UnsupportedModelError(
                f"in block {layer} of {model.source} {parts.mlp_output} follows the MLP before the "
                f"sum (a norm, as in Gemma 2 and 3 and OLMo 2), so a bias on {parts.mlp_last_map} "
                f"is not the vector and {target} cannot hold it"
            )
        path = f"{model.structure.block_paths[layer]}.{parts.mlp_last_map}"
        found[path] = value.float().cpu() / parts.residual_scale
    _check_same(vector, model, found, target)
    return found


def check_close(found: Tensor, expected: Tensor, what: str) -> None:
    """Raise unless two sets of logits are the same but for rounding.

    Args:
        found: Logits.
        expected: Those they have to be.
        what: What gave the first ones, for the message.

    Raises:
        UnsupportedModelError: They are not.
    """
    allowed = _TOLERANCE.get(expected.dtype, _TOLERANCE_HALF) * float(expected.abs().max())
    error = float((found.float() - expected.float()).abs().max())
    if not error <= allowed:
        raise UnsupportedModelError(
            f"{what} does not compute what the vector does: its logits are {error:.2g} away where "
            f"at most {allowed:.2g} is rounding; nothing was written"
        )


def injected_logits(vector: TaskVector, model: LanguageModel) -> Float[Tensor, "... d_vocab"]:
    """Logits of a few tokens with the vector at every one of them."""
    shown = on_the_prompt(vector)
    assert shown is not None
    with torch.inference_mode(), inject(model, shown):
        logits: Tensor = model.hf(input_ids=few_tokens(model.hf)).logits
    return logits


def _check_same(
    vector: TaskVector, model: LanguageModel, biases: Mapping[str, Tensor], target: str
) -> None:
    """Raise unless the model with the biases computes what it does with the vector."""
    with torch.inference_mode(), ExitStack() as stack:
        for path, value in biases.items():
            stack.enter_context(patch_output(model.hf.get_submodule(path), partial(_plus, value)))
        logits = model.hf(input_ids=few_tokens(model.hf)).logits
    check_close(logits, injected_logits(vector, model), f"{target} of {model.source}")


def _plus(value: Tensor, state: Tensor) -> Tensor:
    return state + value.to(state)


def location_of(model: LanguageModel) -> str:
    """What a reader of the files loads the model from.

    Raises:
        TaskVectorsError: It is not known.
    """
    found: Any = model.location or getattr(model.hf.config, "name_or_path", "")
    if not found:
        raise TaskVectorsError(
            f"{model.source} does not say what it was loaded from, and the adapter has to name its "
            "base model; load it from a folder or the hub: tv.load_model(source)"
        )
    return str(found)
