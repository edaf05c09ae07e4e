"""Attention head by head: each head's W_O and W_V, and what it adds to the residual stream.

W_O and W_V are read from the module's matrix, or, where it keeps none (quantised weights), from
what it does to the unit vectors. Where a family normalises attention's output before it is added
(Gemma 2 and 3, OLMo 2), a head's result is taken through that norm with the scale of the run in
question held fixed, so that the results of all heads still add up.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.norms import linear_part


def output_weights(model: LanguageModel, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """W_O of every head of a block, in float32: from its part of `z` to the residual stream."""
    projection, heads = model.part(layer, "output_projection"), model.heads(layer)
    matrix = _matrix(model, projection, heads.n_heads * heads.d_head)
    scale = model.parts(layer).residual_scale
    if scale != 1:
        matrix = matrix * scale
    return rearrange(matrix, "(head d_head) d_model -> head d_head d_model", head=heads.n_heads)


def output_bias(model: LanguageModel, layer: int) -> Float[Tensor, " d_model"]:
    """What W_O's module adds when all heads are silent; zeros where it has no bias."""
    projection, heads = model.part(layer, "output_projection"), model.heads(layer)
    offset = _offset(model, projection, heads.n_heads * heads.d_head)
    scale = model.parts(layer).residual_scale
    return offset if scale == 1 else offset * scale


def value_weights(model: LanguageModel, layer: int) -> Float[Tensor, "kv_head d_model d_head"]:
    """W_V of every key-value head of a block, in float32.

    Query head h reads key-value head h // (n_heads / n_key_value_heads). W_V applies to what
    attention reads: the state after `LanguageModel.attention_norm`, where there is one.
    """
    projection = model.part(layer, "value_projection")
    matrix, width = _matrix(model, projection, model.d_model), model.heads(layer).d_head
    # the map may be W_V alone, or hold queries and keys too, also head by head
    starts = model.parts(layer).value_offsets
    return torch.stack([matrix[:, start : start + width] for start in starts])


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuits:
    """The OV circuits of a block's heads, kept factored; float32."""

    W_V: Float[Tensor, "kv_head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]

    @classmethod
    def of(cls, model: LanguageModel, layer: int) -> "Circuits":
        """Those of a block.

        Raises:
            UnsupportedModelError: Something lies between the values and W_O.
        """
        if not model.heads(layer).sees_values:
            raise UnsupportedModelError(
                f"attention of layer {layer} of {model.source} has a gate or a norm between its "
                "values and W_O, so it has no OV circuits; reconstruction, path expansion and "
                "frozen paths need them."
            )
        return cls(W_V=value_weights(model, layer), W_O=output_weights(model, layer))

    def values(self, read: Float[Tensor, "... d_model"]) -> Float[Tensor, "... head d_head"]:
        """What each head makes of what attention reads, biases apart."""
        values = einsum(read, self.W_V, "... d_model, kv d_model d_head -> ... kv d_head")
        return values.repeat_interleave(len(self.W_O) // len(self.W_V), dim=-2)

    def written(self, z: Float[Tensor, "... head d_head"]) -> Float[Tensor, "... d_model"]:
        """What all heads together write, before a norm on attention's output."""
        return einsum(z, self.W_O, "... head d_head, head d_head d_model -> ... d_model")


def attention_scale(
    model: LanguageModel, layer: int, attention_before_norm: Float[Tensor, "... d_model"]
) -> Float[Tensor, "... d_model"]:
    """What multiplies each coordinate of attention's output on its way to the residual stream.

    Args:
        model: The model.
        layer: The block.
        attention_before_norm: W_O z plus bias in the run whose scale is held fixed.

    Returns:
        The norm's scale in that run times its weight, in float32; ones without such a norm.
    """
    before = attention_before_norm.float()
    norm = model.post_attention_norm(layer)
    if norm is None:
        return torch.ones_like(before)
    return linear_part(norm, before, torch.ones_like(before))


def head_results(
    model: LanguageModel,
    layer: int,
    z: Float[Tensor, "... width"],
    attention_before_norm: Float[Tensor, "... d_model"] | None = None,
) -> Float[Tensor, "... head d_model"]:
    """What each head adds to the residual stream, in float32.

    The results of all heads plus the bias times `attention_scale` are what attention adds.

    Args:
        model: The model.
        layer: The block.
        z: The heads' outputs before W_O, side by side.
        attention_before_norm: W_O z plus bias of the run whose norm scale holds; by default that
            of `z` itself. Give it when `z` is a difference or a part of a run.
    """
    by_head = rearrange(
        z.float(), "... (head d_head) -> ... head d_head", head=model.heads(layer).n_heads
    )
    weights = output_weights(model, layer)
    results = einsum(by_head, weights, "... head d_head, head d_head d_model -> ... head d_model")
    if model.post_attention_norm(layer) is None:
        return results
    if attention_before_norm is None:
        attention_before_norm = results.sum(dim=-2) + output_bias(model, layer)
    return results * attention_scale(model, layer, attention_before_norm).unsqueeze(-2)


def _matrix(model: LanguageModel, module: nn.Module, width: int) -> Float[Tensor, "d_in d_out"]:
    """A linear module as a matrix that rows are multiplied with."""
    from transformers.pytorch_utils import Conv1D

    weight: Tensor
    if type(module) is nn.Linear:
        weight = module.weight.T
    elif type(module) is Conv1D:
        weight = module.weight
    else:  # a subclass can do anything with its weight
        with torch.no_grad():
            unit = torch.eye(width, device=_device(model, module), dtype=model.dtype)
            weight = module(unit).float() - _offset(model, module, width)
    return weight.float()


def _offset(model: LanguageModel, module: nn.Module, width: int) -> Float[Tensor, " d_out"]:
    """What a linear module makes of zeros."""
    with torch.no_grad():
        nothing = torch.zeros(1, width, device=_device(model, module), dtype=model.dtype)
        offset: Tensor = module(nothing)[0].float()
    return offset


def _device(model: LanguageModel, module: nn.Module) -> torch.device:
    first = next(module.parameters(), None)
    return model.device if first is None else first.device
