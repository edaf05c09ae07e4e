"""Attention of branches: shared keys and values of the trunk, and each branch's own.

Registered once with transformers' attention interface under a name of ours; a model uses it only
while blocks are replayed. The queries of all branches and of all heads in a group meet the trunk's
keys in one matrix product, so no key is copied per branch and none is repeated per head. The
trunk's keys and values need no gradient, so the backward pass has no product with them either.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.interface import answering
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.packing import Packing


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedContext:
    """What the branches of one block share while it is replayed."""

    layer: int
    keys: Float[Tensor, "row kv_head prefix d_head"] | None
    values: Float[Tensor, "row kv_head prefix d_value"] | None
    mask: Float[Tensor, "row suffix key"] | None
    """0 where the suffix token may look, -inf where not; keys are the prefix, then the suffix."""
    packing: Packing
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
class AttentionPattern:
    """Where the branches of one block look, and the values of their own tokens."""

    layer: int
    pattern: Float[Tensor, "row branch head suffix key"]
    """Keys are the prefix, then the branch's own suffix."""
    own_values: Float[Tensor, "row branch kv_head suffix d_value"]
    packing: Packing

    def unpacked(self, state: Float[Tensor, "... width"]) -> Float[Tensor, "row branch suffix _"]:
        """What a site of the block holds, by prompt and branch; padding repeats a last token."""
        n_branches = self.pattern.shape[1]
        by_branch = state.reshape(n_branches, self.packing.n_tokens, -1)
        return self.packing.pad(by_branch, dim=1).transpose(0, 1)

    def packed(
        self, padded: Float[Tensor, "row branch suffix width"]
    ) -> Float[Tensor, "1 _ width"]:
        """The same as the block has it."""
        return self.packing.pack(padded.transpose(1, 2)).transpose(0, 1).flatten(0, 1).unsqueeze(0)


_WATCH: ContextVar[Callable[[AttentionPattern], None] | None] = ContextVar(
    "taskvectors_watch", default=None
)


@contextmanager
def record_attention(model: LanguageModel) -> Iterator[dict[int, AttentionPattern]]:
    """Keep the attention of every block that is replayed while inside, by layer.

    Raises:
        UnsupportedModelError: Blocks of the model are not replayed.
    """
    if model.engine != "trunk":
        raise UnsupportedModelError(
            f"{model.source} runs on the engine {model.engine!r}, in which attention patterns of "
            "branches are not seen; attention, frozen-paths, ov-reconstruction, path-expansion and "
            "turning need them."
        )
    looks: dict[int, AttentionPattern] = {}
    token = _WATCH.set(lambda look: looks.__setitem__(look.layer, look))
    try:
        yield looks
    finally:
        _WATCH.reset(token)


def branch_attention(  # noqa: PLR0913, PLR0917  (what transformers passes to attention)
    module: nn.Module,
    query: Float[Tensor, "1 head token d_head"],
    key: Float[Tensor, "1 kv_head token d_head"],
    value: Float[Tensor, "1 kv_head token d_value"],
    attention_mask: Tensor | None,  # noqa: ARG001  (the shared context holds the mask)
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, "..."] | None = None,
    sinks: Float[Tensor, "..."] | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 token head d_value"], None]:
    """Attention in which token (branch b, row r, suffix s) sees r's prefix and b's r up to s.

    Raises:
        UnsupportedModelError: The model passes an argument whose meaning is not known here.
    """
    shared = _SHARED.get()
    _check_known(module, others)
    if shared is None:
        raise RuntimeError(
            f"the branches' attention was called outside a replay of {type(module).__name__}"
        )
    packing, branches = shared.packing, shared.n_branches
    kv_heads, d_head, d_value = key.shape[1], key.shape[3], value.shape[3]
    group = query.shape[1] // kv_heads
    rows, suffix = packing.n_rows, packing.suffix
    scaling = d_head**-0.5 if scaling is None else scaling
    # queries that meet the same keys lie together
    queries = _by_row(query * scaling, shared, kv_heads)
    own_keys = _by_row(key, shared, kv_heads).flatten(3, 4)
    own_values = _by_row(value, shared, kv_heads).flatten(3, 4)
    shape = queries.shape  # [row, kv_head, branch, group, suffix, d_head]
    by_branch = queries.reshape(rows, kv_heads, branches, group * suffix, d_head)
    scores = (by_branch @ own_keys.transpose(-1, -2)).view(*shape[:-1], suffix)
    prefix = 0
    if shared.keys is not None and shared.values is not None:
        prefix = shared.keys.shape[2]
        flat = by_branch.reshape(rows, kv_heads, branches * group * suffix, d_head)
        to_prefix = (flat @ shared.keys.transpose(-1, -2)).view(*shape[:-1], prefix)
        scores = torch.cat([to_prefix, scores], dim=-1)
    scores = scores.float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if shared.mask is not None:
        scores = scores + shared.mask[:, None, None, None]
    pattern = _pattern(scores, s_aux if s_aux is not None else sinks).to(value.dtype)
    watch = _WATCH.get()
    if watch is not None:
        watch(_look(shared, pattern, own_values))
    mixed = pattern[..., prefix:].reshape(*by_branch.shape[:-1], suffix) @ own_values
    mixed = mixed.view(*shape[:-1], d_value)
    if shared.values is not None and prefix:
        from_prefix = pattern[..., :prefix].reshape(rows, kv_heads, -1, prefix) @ shared.values
        mixed = mixed + from_prefix.view(mixed.shape)
    # back to [1, (branch token), (kv_head group), d_head]
    mixed = mixed.permute(0, 4, 2, 1, 3, 5).flatten(3, 4)
    packed = packing.pack(mixed).transpose(0, 1)
    return packed.reshape(1, branches * packing.n_tokens, kv_heads * group, d_value), None


def _pattern(
    scores: Float[Tensor, "row kv_head branch group suffix key"], sinks: Tensor | None
) -> Float[Tensor, "row kv_head branch group suffix key"]:
    """Where each token looks; with sinks, every head has one more place, which holds nothing."""
    if sinks is None:
        return scores.softmax(dim=-1)
    of_head = sinks.float().view(scores.shape[1], 1, scores.shape[3], 1, 1)
    with_sink = torch.cat([scores, of_head.expand(*scores.shape[:-1], 1)], dim=-1)
    return with_sink.softmax(dim=-1)[..., :-1]


_WITHOUT_EFFECT = frozenset(
    {
        "dropout",  # the model is in evaluation mode
        "is_causal", "sliding_window",  # the mask says both
        "position_ids", "cache_position",  # the keys and queries are rotated already
        "output_attentions", "output_hidden_states", "output_router_logits", "use_cache",
        "return_dict", "deterministic", "cache", "past_key_values", "logits_to_keep",
    }
)  # fmt: skip
"""Arguments that models pass along to attention, and that change nothing in a branch."""


def _check_known(module: nn.Module, others: Mapping[str, Any]) -> None:
    unknown = [
        name
        for name, value in others.items()
        if name not in _WITHOUT_EFFECT and value is not None and value is not False
    ]
    if unknown:
        raise UnsupportedModelError(
            f"{type(module).__name__} passes {', '.join(unknown)} to attention, which branches do "
            "not know and must not ignore."
        )


def _by_row(
    heads: Float[Tensor, "1 head token d_head"], shared: SharedContext, kv_heads: int
) -> Float[Tensor, "row kv_head branch group suffix d_head"]:
    """One row per prompt of what lies on the token axis by branch."""
    packing = shared.packing
    split = heads.reshape(kv_heads, -1, shared.n_branches, packing.n_tokens, heads.shape[-1])
    return packing.pad(split, dim=3).permute(3, 0, 2, 1, 4, 5)


def _look(shared: SharedContext, pattern: Tensor, values: Tensor) -> AttentionPattern:
    return AttentionPattern(
        layer=shared.layer,
        pattern=rearrange(
            pattern, "row kv branch group suffix key -> row branch (kv group) suffix key"
        ),
        own_values=rearrange(values, "row kv branch suffix d -> row branch kv suffix d"),
        packing=shared.packing,
    )


@contextmanager
def branching(configs: list[Any]) -> Iterator[None]:
    """Let a model's blocks use the branches' attention while inside.

    Args:
        configs: The configs of the model's modules; see `attention_configs`.
    """
    with answering(configs, branch_attention):
        yield
