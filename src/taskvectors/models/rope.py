"""Rotary positions that transformers scales by the longest row of a call: `longrope`, `dynamic`.

What a prompt over the limit scores must not depend on its neighbours, nor what they score on it. So
a call holds prompts within the limit, or prompts of one length.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Forward = Callable[
    [Int[Tensor, "prompt pos"], Int[Tensor, "prompt pos"]], Float[Tensor, "prompt pos d_model"]
]
"""From token ids and their mask (padding on the right) to `resid_post` of the last block."""


def rope_limit(config: Any) -> int | None:
    """The length beyond which positions are scaled by how long a call is, if there is one."""
    given = getattr(config, "rope_parameters", None) or {}
    kinds = [given, *(kind for kind in given.values() if isinstance(kind, dict))]
    found = [
        int(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") in ("longrope", "dynamic")
    ]
    return min(found, default=None)


def by_length(
    limit: int | None, forward: Forward, *, over: Forward | None = None, n_before: int = 0
) -> Forward:
    """A forward pass that runs prompts over a limit with none of another length.

    Args:
        limit: Tokens; None for no limit.
        forward: The forward pass.
        over: That of prompts over the limit; the same by default.
        n_before: Tokens before each prompt that the limit counts too.
    """
    if limit is None:
        return forward
    long = forward if over is None else over

    def split(
        tokens: Int[Tensor, "prompt pos"], mask: Int[Tensor, "prompt pos"]
    ) -> Float[Tensor, "prompt pos d_model"]:
        lengths = (mask.sum(dim=1) + n_before).clamp(min=limit)
        parts, order = [], []
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero().flatten()
            chosen = mask.index_select(0, rows)
            width = int(chosen.sum(dim=1).max())
            run = forward if length == limit else long
            states = run(tokens.index_select(0, rows)[:, :width], chosen[:, :width])
            parts.append(nn.functional.pad(states, (0, 0, 0, tokens.shape[1] - width)))
            order.append(rows)
        return torch.cat(parts).index_select(0, torch.cat(order).argsort())

    return split
