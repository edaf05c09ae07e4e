"""The plain and the injected run side by side, block by block, at the last token.

Both go through the trunk as two branches of each prompt, so everything before the last token is
computed once and is the same for both, as it is in the model.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from taskvectors.models import Component, LanguageModel, capture
from taskvectors.models.attention import AttentionPattern, record_attention
from taskvectors.models.recording import Recording
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk
from taskvectors.vectors import TaskVector

PLAIN, INJECTED = 0, 1
_READ: tuple[Component, ...] = ("resid_pre", "z", "mlp_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """What one block held in both runs at the last token of some prompts."""

    layer: int
    entered: Float[Tensor, "run prompt d_model"]
    """`resid_pre`."""
    z: Float[Tensor, "run prompt head d_head"]
    mlp_out: Float[Tensor, "run prompt d_model"]
    pattern: Float[Tensor, "run prompt head key"]
    """Of the last token; its own key is the last one. Padding before a prompt has zeros."""
    plain_values: Float[Tensor, "prompt head key d_head"]
    """Of all keys in the plain run, for each query head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoRuns:
    """Blocks from the one above a vector's lowest layer to the last one."""

    blocks: tuple[Block, ...]
    final: Float[Tensor, "run prompt d_model"]
    """`resid_post` of the last block."""


def two_runs(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector, layers: range
) -> TwoRuns:
    """Run some prompts plain and injected, and keep what their blocks hold at the last token.

    Args:
        model: The model.
        prompts: Prompts; of their answers the first token alone is used.
        vector: A vector that is added at the last token.
        layers: The blocks to keep, up to the last one.
    """
    read: dict[tuple[int, Component], Tensor] = {}
    with ExitStack() as stack:
        for layer in layers:
            for component in _READ:
                keep: Callable[[Tensor], None] = partial(read.__setitem__, (layer, component))
                stack.enter_context(capture(model, layer, component, keep))
        trunk, looks, final = _run(model, prompts, vector, layers[0])
    blocks = []
    for layer in layers:
        look, heads = looks[layer], model.heads(layer)
        at_last = {name: look.unpacked(read[layer, name])[:, :, 0] for name in _READ}
        states = {name: state.float().transpose(0, 1) for name, state in at_last.items()}
        blocks.append(
            Block(
                layer=layer,
                entered=states["resid_pre"],
                z=rearrange(states["z"], "run row (head d) -> run row head d", head=heads.n_heads),
                mlp_out=states["mlp_out"],
                pattern=_pattern(look),
                plain_values=values_of_keys(model, trunk, look, PLAIN),
            )
        )
    return TwoRuns(blocks=tuple(blocks), final=final[:, :, 0].float().transpose(0, 1))


def patterns_of_two_runs(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector, layers: Sequence[int]
) -> dict[int, Float[Tensor, "run prompt head key"]]:
    """The attention of the last token alone, by block: it asks no other part of a block."""
    _, looks, _ = _run(model, prompts, vector, min(layers))
    return {layer: _pattern(looks[layer]) for layer in layers}


def _run(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector, lowest: int
) -> tuple[Trunk, dict[int, AttentionPattern], Tensor]:
    trunk = Trunk.build(model, prompts)
    if trunk.suffix != 1:
        raise ValueError("two runs are compared at the last token: cut answers to one token")
    # the plain run has an edit that adds nothing, so that it is replayed with the other
    nothing = Edit(layer=lowest - 1, value=torch.zeros(model.d_model))
    with torch.no_grad(), record_attention(model) as looks:
        final = trunk.run([[nothing], vector.edits()])
    return trunk, looks, final


def _pattern(look: AttentionPattern) -> Float[Tensor, "run prompt head key"]:
    return look.pattern[:, :, :, 0].float().transpose(0, 1)


def values_of_keys(
    model: LanguageModel, trunk: Trunk, look: AttentionPattern, branch: int
) -> Float[Tensor, "prompt head key d_head"]:
    """What each query head finds at each key in one branch."""
    own = look.own_values[:, branch]
    assert isinstance(trunk.prepared, Recording)  # attention is seen in replays alone
    prefix = trunk.prepared.layers[look.layer].values
    values = own if prefix is None else torch.cat([prefix, own], dim=2)
    heads = model.heads(look.layer)
    return values.float().repeat_interleave(heads.n_heads // heads.n_key_value_heads, dim=1)
