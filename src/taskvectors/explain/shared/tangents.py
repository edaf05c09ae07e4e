"""How a vector's infinitesimal change travels up, block by block: forward-mode differentiation.

The tangent at the last token grows in each block by what its parts add: J x = x + Σ over blocks of
(OV + patterns + norms + MLP) of the tangent that enters the block. Each part is computed forwards,
and none as a remainder, so that their sum can be checked against the whole.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from taskvectors.explain.shared.frozen_attention import FrozenAttention
from taskvectors.explain.shared.two_runs import values_of_keys
from taskvectors.models import Component, LanguageModel, capture
from taskvectors.models.attention import AttentionPattern, record_attention
from taskvectors.models.heads import attention_scale, output_bias
from taskvectors.models.interface import plain_experts
from taskvectors.models.norms import linear_part
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk import Edit, Trunk

PARTS = ("ov", "patterns", "norms", "mlp")
"""What a block adds to a tangent: through OV circuits with patterns and norm scales held, through
the change of the patterns, through that of the norm scales of attention, and through the MLP."""
_READ: tuple[Component, ...] = ("resid_pre", "z", "mlp_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tangents:
    """What becomes of some tangents at the last block, of each query."""

    parts: Float[Tensor, "tangent part block query d_model"]
    """What each part of each block above the vector adds; parts as in `PARTS`."""
    final: Float[Tensor, "tangent query d_model"]
    """The tangents of `resid_post` of the last block, by differentiating the whole."""


def tangents_above(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    layer: int,
    at: Float[Tensor, " d_model"],
    tangents: Float[Tensor, "tangent d_model"],
) -> Tangents:
    """Follow tangents of what is added at a layer, at the last token.

    Args:
        model: The model; its blocks are replayed.
        prompts: Queries.
        layer: Where the vector is added; blocks above it are followed.
        at: The vector at which the model is linearised.
        tangents: Directions in which it changes.
    """
    trunk = Trunk.build(model, with_first_tokens(prompts))
    read: dict[tuple[int, Component], Tensor] = {}
    above = range(layer + 1, model.n_layers)
    with torch.no_grad(), forward_ad.dual_level(), ExitStack() as stack:
        stack.enter_context(plain_experts(model.attention_configs))
        looks = stack.enter_context(record_attention(model))
        for block in above:
            for component in _READ:
                keep: Callable[[Tensor], None] = partial(read.__setitem__, (block, component))
                stack.enter_context(capture(model, block, component, keep))
        value = at.to(model.device).float()
        branches = [[Edit(layer=layer, value=_dual(value, one.to(value)))] for one in tangents]
        final = _tangent(trunk.run(branches)[:, :, 0]).transpose(0, 1)
        parts = [torch.stack(_parts_of_block(model, trunk, looks[block], read)) for block in above]
    by_block = torch.stack(parts) if parts else final.new_zeros(0, len(PARTS), *final.shape)
    return Tangents(parts=by_block.permute(2, 1, 0, 3, 4), final=final)


def _parts_of_block(
    model: LanguageModel,
    trunk: Trunk,
    look: AttentionPattern,
    read: dict[tuple[int, Component], Tensor],
) -> list[Float[Tensor, "tangent query d_model"]]:
    """What the parts of one block add, in the order of `PARTS`."""
    layer = look.layer
    entered, z, mlp = (
        look.unpacked(read[layer, name])[:, :, 0].float().transpose(0, 1) for name in _READ
    )
    heads = rearrange(z, "run query (head d) -> run query head d", head=model.heads(layer).n_heads)
    pattern = look.pattern[:, :, :, 0].float().transpose(0, 1)
    run = (_primal(state)[0] for state in (entered, heads, pattern))  # alike in all branches
    held = FrozenAttention.of(model, layer, *run)
    values = _primal(values_of_keys(model, trunk, look, 0))
    turned = torch.einsum("rqhk,qhkd->rqhd", _tangent(pattern), values)
    scale = attention_scale(model, layer, held.circuits.written(heads) + output_bias(model, layer))
    rescaled = linear_part(held.norm, entered, held.entered)
    return [
        held.carried(_tangent(entered)),
        held.written(turned),
        held.own(_tangent(rescaled)) + _tangent(scale) * held.before,
        _tangent(mlp),
    ]


def _dual(value: Tensor, tangent: Tensor) -> Tensor:
    """A value that a tangent goes along with."""
    with warnings.catch_warnings():
        # the first of a process compiles torch's own rules, by what torch itself deprecates
        warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
        made: Tensor = forward_ad.make_dual(value.clone(), tangent)  # type: ignore[no-untyped-call]
    return made


def _primal(dual: Tensor) -> Tensor:
    primal: Tensor = forward_ad.unpack_dual(dual).primal  # type: ignore[no-untyped-call]
    return primal


def _tangent(dual: Tensor) -> Tensor:
    """The tangent; zeros where a state does not depend on the vector."""
    found: Tensor | None = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
    return torch.zeros_like(_primal(dual)) if found is None else found
