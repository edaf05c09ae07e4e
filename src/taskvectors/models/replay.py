"""Run one block again for the branches, with the arguments that the model passed to it.

The only difference to the model's own call: the suffix is there once per branch, so whatever is
aligned with its tokens is tiled, and attention is the branches' own (`attention.py`).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.attention import SharedContext, sharing
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.recording import LayerRecord
from taskvectors.models.sites import Component, Rewrite, rewriting


def select(
    record: LayerRecord, rows: Int[Tensor, " row"] | None, suffix: int | None = None
) -> LayerRecord:
    """One layer's record for a mini-batch; keys and values are gathered only for the rows in hand.

    Args:
        record: A layer of a recording.
        rows: Prompts of the recording; all by default.
        suffix: Leading suffix tokens to keep; all by default.
    """
    n_prompts, whole = record.entered.shape[:2]
    suffix = whole if suffix is None else suffix

    def pick(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(pick(part) for part in value)
        if isinstance(value, Tensor) and value.dim():
            if rows is not None and value.shape[0] == n_prompts:
                value = value.index_select(0, rows)
            if suffix < whole and value.dim() >= 2 and value.shape[1] == whole:
                value = value[:, :suffix]
        return value

    mask = record.mask
    if mask is not None:
        mask = mask if rows is None else mask.index_select(0, rows)
        mask = mask[:, :suffix, : mask.shape[2] - whole + suffix]
    return LayerRecord(
        entered=pick(record.entered),
        keys=_rows(record.keys, rows),
        values=_rows(record.values, rows),
        mask=mask,
        arguments={name: pick(value) for name, value in record.arguments.items()},
    )


def _rows(value: Tensor | None, rows: Tensor | None) -> Tensor | None:
    return value if value is None or rows is None else value.index_select(0, rows)


def replay_block(
    model: LanguageModel,
    layer: int,
    record: LayerRecord,
    state: Float[Tensor, "row token d_model"],
    *,
    n_branches: int,
    rewrites: Sequence[tuple[Component, Rewrite]] = (),
) -> Float[Tensor, "row token d_model"]:
    """`resid_post` of one block for branches that lie side by side on the token axis.

    Args:
        model: The model; call inside `attention.branching`.
        layer: The block.
        record: Its record for these rows.
        state: `resid_pre` of the branches; token = branch * suffix + suffix position.
        n_branches: How many branches there are.
        rewrites: What to change inside the block, by site.
    """
    suffix = state.shape[1] // n_branches
    context = SharedContext(
        keys=record.keys, values=record.values, mask=record.mask, n_branches=n_branches
    )
    arguments = {name: _tile(value, suffix, n_branches) for name, value in record.arguments.items()}
    with ExitStack() as stack:
        stack.enter_context(sharing(context))
        for component, rewrite in rewrites:
            stack.enter_context(rewriting(model, layer, component, rewrite))
        output = model.blocks[layer](state, **arguments)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _tile(value: Any, suffix: int, n_branches: int) -> Any:
    """Repeat along the token axis what is aligned with the suffix's tokens."""
    if n_branches == 1:
        return value
    if isinstance(value, tuple):
        return tuple(_tile(part, suffix, n_branches) for part in value)
    if isinstance(value, Tensor) and value.dim() >= 2 and value.shape[1] == suffix:
        return torch.cat([value] * n_branches, dim=1)
    if isinstance(value, Tensor) and value.dim() == 1 and value.shape[0] == suffix:
        return value.repeat(n_branches)
    return value
