"""What states say about the prompts' answers, token by token, teacher-forced.

Shared by all ways of getting the states: branches of a trunk, and whole passes of an adapted model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvectors.models.language_model import LanguageModel
from taskvectors.models.shortlist import Shortlist
from taskvectors.models.unembedding import (
    SoftTargets,
    TokenScores,
    score_tokens,
    token_losses,
)
from taskvectors.trunk.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerScores:
    """What branches say about the prompts' answers, token by token, teacher-forced."""

    log_probability: Float[Tensor, "row branch answer"]
    """Of each answer token, float32; 0 where the answer has ended."""
    best: Int[Tensor, "row branch answer"]
    """The full-vocabulary arg-max; -1 where the answer has ended."""
    present: Bool[Tensor, "row answer"]
    """Whether the answer has a token there."""
    is_best: Bool[Tensor, "row branch answer"]
    """Whether the answer's token is the arg-max; True where the answer has ended."""


def answer_states(
    states: Float[Tensor, "row branch suffix d_model"], batch: Batch
) -> Float[Tensor, "read branch d_model"]:
    """The states that predict the answers' tokens."""
    by_token = states.transpose(1, 2).flatten(0, 1)
    return by_token.index_select(0, batch.reads)


def answer_losses(
    model: LanguageModel,
    states: Float[Tensor, "row branch suffix d_model"],
    batch: Batch,
    soft: SoftTargets | None = None,
    shortlist: Shortlist | None = None,
) -> Float[Tensor, " branch"]:
    """Negative log-probability, averaged over an answer's tokens and over prompts.

    Args:
        model: The model.
        states: `resid_post` of the last block.
        batch: Where they are read, and what should follow.
        soft: Distributions to be close to as well, one per read; see `token_losses`. Its
            normalizers are over the same tokens as the loss.
        shortlist: The tokens that the loss runs over, all answers' among them; the full vocabulary
            by default.
    """
    read = answer_states(states, batch)
    n_branches = read.shape[1]
    final = model.read_state(read).flatten(0, 1)
    targets, unembedding = batch.targets, model.unembedding
    if shortlist is not None:
        targets, unembedding = shortlist.index(targets), shortlist.unembedding
    targets = targets.repeat_interleave(n_branches)
    losses = token_losses(unembedding, final, targets, soft).view(-1, n_branches)
    return (losses * batch.weights.unsqueeze(1)).sum(dim=0) / batch.n_rows


def answer_scores(
    model: LanguageModel,
    states: Float[Tensor, "row branch suffix d_model"],
    batch: Batch,
    *,
    first_bias: Float[Tensor, " d_vocab"] | None = None,
    ends: Sequence[int] = (),
) -> AnswerScores:
    """Log-probabilities of the answers' tokens and the arg-max at each, without gradient.

    Args:
        model: The model.
        states: `resid_post` of the last block.
        batch: Where they are read, and what should follow.
        first_bias: Added to the logits of each answer's first token.
        ends: Tokens that end an answer. The last token of each answer then stands for any of them.
    """
    with torch.no_grad():
        read = answer_states(states, batch)
        n_branches = read.shape[1]
        final = model.read_state(read).flatten(0, 1)
        targets = batch.targets.repeat_interleave(n_branches)
        has_bias = None
        if first_bias is not None:
            has_bias = (batch.read_slots == 0).repeat_interleave(n_branches)
        scores = score_tokens(model.unembedding, final, targets, bias=first_bias, has_bias=has_bias)
        is_hit = scores.best == targets
        if ends:
            at_end = batch.is_last_read.repeat_interleave(n_branches)
            end_ids = torch.tensor(ends, device=targets.device)
            is_hit = torch.where(at_end, torch.isin(scores.best, end_ids), is_hit)
            log_probability = _of_any(model, final, targets, end_ids, scores.log_probability)
            changed = torch.where(at_end, log_probability, scores.log_probability)
            scores = replace(scores, log_probability=changed)
        return _spread(scores, is_hit, batch, n_branches)


def _of_any(
    model: LanguageModel, final: Tensor, targets: Tensor, ends: Tensor, log_probability: Tensor
) -> Float[Tensor, " row"]:
    """Log-probability of any of some tokens, where that of one of them, the target, is known."""
    whole = model.unembedding
    bias = None if whole.bias is None else whole.bias[ends]
    logits = replace(whole, weight=whole.weight[ends], bias=bias).logits(final).float()
    at = torch.searchsorted(ends, targets).clamp(max=len(ends) - 1).unsqueeze(1)
    return log_probability + logits.logsumexp(dim=1) - logits.gather(1, at).squeeze(1)


def _spread(scores: TokenScores, is_hit: Tensor, batch: Batch, n_branches: int) -> AnswerScores:
    """From a list of reads to [row, branch, answer]."""
    real = batch.weights > 0
    at = (batch.read_rows[real], slice(None), batch.read_slots[real])
    shape = (batch.n_rows, n_branches, batch.n_answer)
    place = partial(_placed, shape, at, real)
    present = torch.zeros(shape[0], shape[2], dtype=torch.bool, device=is_hit.device)
    present[at[0], at[2]] = True
    hit = place(is_hit.long(), 1).bool()
    return AnswerScores(
        log_probability=place(scores.log_probability, 0.0),
        best=place(scores.best, -1),
        present=present,
        is_best=hit,
    )


def _placed(
    shape: tuple[int, int, int], at: Any, real: Tensor, values: Tensor, empty: float
) -> Tensor:
    """Values of the real reads in a tensor of this shape, which is empty elsewhere."""
    placed = values.new_full(shape, empty)
    placed[at] = values.view(-1, shape[1])[real]
    return placed
