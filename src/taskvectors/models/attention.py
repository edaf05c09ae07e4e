"""Attention of branches: shared keys and values of the trunk, and each branch's own.

Registered once with transformers' attention interface under a name of ours; a model uses it only
while blocks are replayed. The queries of all branches and of all heads in a group meet the trunk's
keys in one matrix product, so no key is copied per branch and none is repeated per head. The
trunk's keys and values need no gradient, so the backward pass has no product with them either.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

NAME = "taskvectors_branches"


@dataclass(frozen=True, kw_only=True)
class SharedContext:
    """What the branches of one block share while it is replayed."""

    keys: Float[Tensor, "batch kv_head prefix d_head"] | None
    values: Float[Tensor, "batch kv_head prefix d_head"] | None
    mask: Float[Tensor, "batch suffix key"] | None
    """0 where the suffix token may look, -inf where not; keys are the prefix, then the suffix."""
    n_branches: int


_SHARED: ContextVar[SharedContext | None] = ContextVar("taskvectors_shared", default=None)


@contextmanager
def sharing(context: SharedContext) -> Iterator[None]:
    """Make `context` the one that the branches' attention reads."""
    token = _SHARED.set(context)
    try:
        yield
    finally:
        _SHARED.reset(token)


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """Where the branches of one block look, and the values of their own tokens."""

    layer: int
    pattern: Float[Tensor, "batch branch head suffix key"]
    """Keys are the prefix, then the branch's own suffix."""
    own_values: Float[Tensor, "batch branch kv_head suffix d_head"]


_WATCH: ContextVar[Callable[[Look], None] | None] = ContextVar("taskvectors_watch", default=None)


@contextmanager
def watching_attention(watch: Callable[[Look], None]) -> Iterator[None]:
    """Show the attention of every block that is replayed while inside to `watch`."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def branch_attention(  # noqa: PLR0913, PLR0917  (what transformers passes to attention)
    module: nn.Module,
    query: Float[Tensor, "batch head token d_head"],
    key: Float[Tensor, "batch kv_head token d_head"],
    value: Float[Tensor, "batch kv_head token d_head"],
    attention_mask: Tensor | None,  # noqa: ARG001  (the shared context holds the mask)
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch token head d_head"], None]:
    """Attention in which token (branch r, suffix s) sees the prefix and its own branch up to s."""
    shared = _SHARED.get()
    if shared is None:
        raise RuntimeError(
            f"attention {NAME!r} was called outside a replay of {type(module).__name__}"
        )
    batch, kv_heads, tokens, d_head = key.shape
    group, branches = query.shape[1] // kv_heads, shared.n_branches
    suffix = tokens // branches
    scaling = d_head**-0.5 if scaling is None else scaling
    # [batch, kv_head, branch, group, suffix, d_head]: rows that meet the same keys lie together
    rows = query.view(batch, kv_heads, group, branches, suffix, d_head).transpose(2, 3) * scaling
    own_keys = key.view(batch, kv_heads, branches, suffix, d_head)
    own_values = value.view(batch, kv_heads, branches, suffix, d_head)
    by_branch = rows.reshape(batch, kv_heads, branches, group * suffix, d_head)
    scores = (by_branch @ own_keys.transpose(-1, -2)).view(
        batch, kv_heads, branches, group, suffix, suffix
    )
    prefix = 0
    if shared.keys is not None and shared.values is not None:
        prefix = shared.keys.shape[2]
        flat = rows.reshape(batch, kv_heads, branches * group * suffix, d_head)
        to_prefix = (flat @ shared.keys.transpose(-1, -2)).view(*scores.shape[:-1], prefix)
        scores = torch.cat([to_prefix, scores], dim=-1)
    scores = scores.float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if shared.mask is not None:
        scores = scores + shared.mask[:, None, None, None]
    pattern = scores.softmax(dim=-1).to(value.dtype)
    watch = _WATCH.get()
    if watch is not None:
        watch(_look(module, pattern, own_values))
    mixed = (pattern[..., prefix:].reshape(*by_branch.shape[:-1], suffix) @ own_values).view(
        rows.shape
    )
    if shared.values is not None and prefix:
        from_prefix = pattern[..., :prefix].reshape(batch, kv_heads, -1, prefix) @ shared.values
        mixed = mixed + from_prefix.view(rows.shape)
    # back to [batch, (branch suffix), (kv_head group), d_head]
    mixed = mixed.permute(0, 2, 4, 1, 3, 5)
    return mixed.reshape(batch, tokens, kv_heads * group, d_head), None


def _look(module: nn.Module, pattern: Tensor, own_values: Tensor) -> Look:
    return Look(
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        pattern=rearrange(
            pattern, "batch kv branch group suffix key -> batch branch (kv group) suffix key"
        ),
        own_values=rearrange(own_values, "batch kv branch suffix d -> batch branch kv suffix d"),
    )


@contextmanager
def branching(config: Any) -> Iterator[None]:
    """Let a model's blocks use the branches' attention while inside."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, branch_attention)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
