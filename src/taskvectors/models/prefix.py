"""A prefix that many prompts share: it runs once, and what follows uses its keys and values."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.calls import cache_name, run_body
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.recording import make_read_only
from taskvectors.models.rope import Forward, by_length


def after_prefix(model: LanguageModel, prefix: Sequence[int]) -> Forward:
    """The forward pass of what follows a prefix, which runs now.

    Args:
        model: The model.
        prefix: Token ids, BOS included; may be empty.

    Returns:
        From token ids after the prefix, and their mask, to `resid_post` of the last block. Padding
        is on the right, where no token sees it, so that sliding windows count real tokens.
    """
    from transformers import DynamicCache

    before = torch.tensor(list(prefix), dtype=torch.long, device=model.device)
    whole = partial(_follow_whole, model, before)
    limit, n_before = model.rope_limit, len(prefix)
    if model.engine_for(n_before) != "trunk":
        return by_length(limit, whole, n_before=n_before)
    cache: Any = None
    if prefix:
        cache = DynamicCache()  # without a config: every layer keeps every position
        model.forget_longer_calls()
        with torch.no_grad():
            model.body(input_ids=before[None], use_cache=True, **{cache_name(model): cache})
        make_read_only(cache)
    follow = partial(_follow, model, cache, n_before)
    return by_length(limit, follow, over=whole, n_before=n_before)


def _follow(
    model: LanguageModel,
    cache: Any,
    n_before: int,
    tokens: Int[Tensor, "prompt pos"],
    mask: Int[Tensor, "prompt pos"],
) -> Float[Tensor, "prompt pos d_model"]:
    n_rows, n_columns = tokens.shape
    position = torch.arange(n_before, n_before + n_columns, device=tokens.device)
    return run_body(
        model,
        input_ids=tokens,
        attention_mask=torch.cat([mask.new_ones(n_rows, n_before), mask], dim=1),
        position_ids=position.expand(n_rows, -1),
        use_cache=cache is not None,
        **{cache_name(model): cache},
    )


def _follow_whole(
    model: LanguageModel,
    prefix: Int[Tensor, " before"],
    tokens: Int[Tensor, "prompt pos"],
    _: Int[Tensor, "prompt pos"],
) -> Float[Tensor, "prompt pos width"]:
    """The whole of each prompt, where keys and values alone are not all that a prefix leaves."""
    whole = torch.cat([prefix.expand(len(tokens), -1), tokens], dim=1)
    return run_body(model, input_ids=whole, use_cache=False)[:, len(prefix) :]
