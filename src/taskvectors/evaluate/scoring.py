"""Scoring branches on prompts: one trunk per chunk of prompts, all branches in one pass.

Teacher-forced: the answer's tokens are given, and each is compared with the full vocabulary. What
comes out is one row per branch and one column per prompt; `measures.py` reduces it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvectors.evaluate.labels import (
    Labels,
    are_single,
    best_of_several,
    best_single,
    is_answer,
)
from taskvectors.models import LanguageModel
from taskvectors.models.prefix import after_prefix
from taskvectors.models.rope import Forward
from taskvectors.models.tensors import require_finite
from taskvectors.prompts import Prompt
from taskvectors.trunk import (
    AnswerScores,
    Branch,
    Edit,
    FullForward,
    Position,
    Trunk,
    TrunkCache,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)
from taskvectors.trunk.answers import answer_scores
from taskvectors.trunk.full_forward import FIRST


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What branches answer to prompts."""

    is_correct: Bool[Tensor, "branch prompt"]
    """Every token of the answer is the full-vocabulary arg-max."""
    first_is_correct: Bool[Tensor, "branch prompt"]
    first_token: Int[Tensor, "branch prompt"]
    """The arg-max where the answer begins."""
    log_probability: Float[Tensor, "branch prompt"]
    """Mean over the answer's tokens."""
    label_is_correct: Bool[Tensor, "branch prompt"] | None
    """The task's most probable label is the answer; None where labels are not all known."""
    forward_tokens: int
    """Tokens that went through the model, a token that went through half of the blocks as half."""
    seconds: float

    def branch(self, index: int) -> "Scores":
        """One branch's scores, as a branch axis of one."""
        kept = slice(index, index + 1)
        return replace(
            self,
            is_correct=self.is_correct[kept],
            first_is_correct=self.first_is_correct[kept],
            first_token=self.first_token[kept],
            log_probability=self.log_probability[kept],
            label_is_correct=None if self.label_is_correct is None else self.label_is_correct[kept],
        )


def score(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    branches: Sequence[Branch] = ((),),
    *,
    labels: Labels | None = None,
    logit_bias: Float[Tensor, " d_vocab"] | None = None,
    memory: int | None = None,
) -> Scores:
    """Score branches on prompts.

    Args:
        model: The model.
        prompts: The prompts, with the answers that count as right.
        branches: What each branch changes; the plain run by default.
        labels: The task's labels, for `label_is_correct`.
        logit_bias: Added to the logits where an answer begins.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        MemoryBudgetError: Not even one prompt fits the budget.
    """
    trunks = TrunkCache(memory)
    return score_with(trunks, model, prompts, branches, labels=labels, logit_bias=logit_bias)


def score_with(
    trunks: TrunkCache,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    branches: Sequence[Branch],
    *,
    labels: Labels | None,
    logit_bias: Float[Tensor, " d_vocab"] | None,
) -> Scores:
    """The same, on a trunk that other work has left or will use, where all prompts fit at once."""

    def run(asked: Sequence[Prompt], rows: Sequence[int]) -> Scores:
        of_rows = [[_rows(edit, rows) for edit in branch] for branch in branches]
        return _score_branches(trunks, model, asked, of_rows, labels=None, logit_bias=logit_bias)

    scores = _score_branches(trunks, model, prompts, branches, labels=labels, logit_bias=logit_bias)
    return _any_answer(scores, prompts, run)


def _score_branches(
    trunks: TrunkCache,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    branches: Sequence[Branch],
    *,
    labels: Labels | None,
    logit_bias: Float[Tensor, " d_vocab"] | None,
) -> Scores:
    """Scores against the first of the right answers."""
    started = trunks.clock()
    prompts, labels = _with_ends(prompts, labels)
    positions = positions_of(branches)
    shape = shape_of(prompts, positions, n_branches=len(branches))
    step = trunks.plan(model, partial(prompts_that_fit, model, shape))
    if step >= len(prompts):
        trunk = trunks.build(model, prompts, positions=positions)
        scores = _score_trunk(trunk, branches, labels, logit_bias, trunks.build)
        return replace(scores, seconds=trunks.clock() - started)
    parts = []
    by_length = _by_length(prompts)
    for start in range(0, len(prompts), step):
        rows = by_length[start : start + step]
        chunk = [[_rows(edit, rows) for edit in branch] for branch in branches]
        trunk = Trunk.build(model, [prompts[row] for row in rows], positions=positions)
        parts.append(_score_trunk(trunk, chunk, labels, logit_bias, Trunk.build))
    return _joined(parts, by_length, trunks.clock() - started)


def score_whole(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    forward: Forward,
    *,
    labels: Labels | None = None,
    memory: int | None = None,
    n_before: int = 0,
) -> Scores:
    """The same scores for a forward pass of one's own, such as an adapted model's.

    Args:
        model: The model, for its unembedding.
        prompts: The prompts, with the answers that count as right.
        forward: From token ids to `resid_post` of the last block.
        labels: The task's labels, for `label_is_correct`.
        memory: Budget in bytes; a share of what is free by default.
        n_before: Tokens that the forward pass has before each prompt, which take memory.

    Raises:
        MemoryBudgetError: Not even one prompt fits the budget.
    """
    started = time.perf_counter()
    shape = replace(shape_of(prompts, FIRST, n_branches=0), prefix=n_before)
    step = prompts_that_fit(model, shape, resolve_budget(memory, model.device))

    def run(asked: Sequence[Prompt], known: Labels | None) -> Scores:
        asked, known = _with_ends(asked, known)
        by_length = _by_length(asked)
        parts = []
        for start in range(0, len(asked), step):
            chunk = [asked[row] for row in by_length[start : start + step]]
            parts.append(_score_passes(FullForward.of(model, chunk, forward), known))
        return _joined(parts, by_length, time.perf_counter() - started)

    return _any_answer(run(prompts, labels), prompts, lambda asked, _: run(asked, None))


def _with_ends(
    prompts: Sequence[Prompt], labels: Labels | None
) -> tuple[Sequence[Prompt], Labels | None]:
    """Prompts and labels whose answers have one token more, which stands for any end of them.

    Raises:
        ValueError: Prompts differ in what ends their answers.
    """
    ends = prompts[0].end_ids
    if any(prompt.end_ids != ends for prompt in prompts):
        raise ValueError("prompts that are scored together have answers that end alike")
    if not ends:
        return prompts, labels
    asked = [replace(prompt, answer_ids=(*prompt.answer_ids, ends[0])) for prompt in prompts]
    known = None if labels is None else {name: (*ids, ends[0]) for name, ids in labels.items()}
    return asked, known


def _any_answer(
    scores: Scores,
    prompts: Sequence[Prompt],
    run: Callable[[Sequence[Prompt], Sequence[int]], Scores],
) -> Scores:
    """Scores where any of several right answers counts; the log-probability is the largest.

    Args:
        scores: Against each prompt's first answer.
        prompts: The prompts.
        run: Scores prompts with another answer, given with their rows.
    """
    for number in range(max((len(prompt.other_answer_ids) for prompt in prompts), default=0)):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt.other_answer_ids) > number]
        asked = [replace(prompts[i], answer_ids=prompts[i].other_answer_ids[number]) for i in rows]
        other = run(asked, rows)
        right, first = scores.is_correct.clone(), scores.first_is_correct.clone()
        logprob = scores.log_probability.clone()
        right[:, rows] |= other.is_correct
        first[:, rows] |= other.first_is_correct
        logprob[:, rows] = torch.maximum(logprob[:, rows], other.log_probability)
        scores = replace(
            scores,
            is_correct=right,
            first_is_correct=first,
            log_probability=logprob,
            forward_tokens=scores.forward_tokens + other.forward_tokens,
            seconds=scores.seconds + other.seconds,
        )
    return scores


def score_alike(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    labels: Labels | None = None,
    memory: int | None = None,
) -> Scores:
    """The same scores of a plain run, for prompts that begin alike: what they share runs once.

    Args:
        model: The model.
        prompts: The prompts, with the answers that count as right.
        labels: The task's labels, for `label_is_correct`.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        MemoryBudgetError: Not even one prompt fits the budget.
    """
    started = time.perf_counter()
    n_shared = shared_length([prompt.token_ids for prompt in prompts])
    # positions would be others; scores name none
    rest = [replace(prompt, token_ids=prompt.token_ids[n_shared:]) for prompt in prompts]
    forward = after_prefix(model, prompts[0].token_ids[:n_shared])
    scores = score_whole(model, rest, forward, labels=labels, memory=memory, n_before=n_shared)
    return replace(
        scores,
        forward_tokens=scores.forward_tokens + n_shared,
        seconds=time.perf_counter() - started,
    )


def shared_length(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows begin with; each keeps at least one of its own."""
    most = min(map(len, rows)) - 1
    first = rows[0]
    return next((at for at in range(most) if any(row[at] != first[at] for row in rows[1:])), most)


def _by_length(prompts: Sequence[Prompt]) -> list[int]:
    return sorted(range(len(prompts)), key=lambda i: len(prompts[i].token_ids))


def _joined(parts: Sequence[Scores], order: Sequence[int], seconds: float) -> Scores:
    """Scores of chunks of prompts as one, back in the order of the prompts."""
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts], dim=1)[:, back]

    return Scores(
        is_correct=whole("is_correct"),
        first_is_correct=whole("first_is_correct"),
        first_token=whole("first_token"),
        log_probability=whole("log_probability"),
        label_is_correct=None if parts[0].label_is_correct is None else whole("label_is_correct"),
        forward_tokens=sum(part.forward_tokens for part in parts),
        seconds=seconds,
    )


def positions_of(branches: Sequence[Branch]) -> tuple[Position, ...]:
    """All positions that some branches edit; the last token where they edit nothing."""
    named = (position for branch in branches for edit in branch for position in edit.positions)
    return tuple(dict.fromkeys(named)) or (-1,)


def _rows(edit: Edit, rows: Sequence[int]) -> Edit:
    return (
        replace(edit, value=edit.value[list(rows)])
        if isinstance(edit.value, Tensor) and edit.value.dim() == 3
        else edit
    )


def _score_trunk(
    trunk: Trunk,
    branches: Sequence[Branch],
    labels: Labels | None,
    logit_bias: Tensor | None,
    build: Callable[..., Trunk],
) -> Scores:
    tokens = trunk.tokens_run(branches)
    with torch.no_grad():
        batch = trunk.batch()
        states = trunk.run(branches, batch)
        bias = None if logit_bias is None else logit_bias.to(states.device)
        ends = trunk.cut.prompts[0].end_ids
        found = trunk.answer_scores(states, batch, first_bias=bias, ends=ends)
        if labels is None:
            return _scores(found, None, tokens, bool(ends))

        if are_single(labels):
            best, more = best_single(trunk.model, trunk.cut, states, labels, bias), 0
        else:

            def again(asked: Sequence[Prompt], rows: Sequence[int]) -> tuple[AnswerScores, int]:
                of_rows = [[_rows(edit, rows) for edit in branch] for branch in branches]
                other = build(trunk.model, asked, positions=positions_of(branches))
                batch = other.batch()
                scores = other.answer_scores(
                    other.run(of_rows, batch), batch, first_bias=bias, ends=ends
                )
                return scores, other.tokens_run(of_rows)

            best, more = best_of_several(trunk.cut, found, labels, again)
    return _scores(found, is_answer(trunk.cut, labels, best), tokens + more, bool(ends))


def _score_passes(passes: FullForward, labels: Labels | None) -> Scores:
    with torch.no_grad():
        batch = passes.batch()
        states = passes.run(batch)
        ends = passes.cut.prompts[0].end_ids
        found = answer_scores(passes.model, states, batch, ends=ends)
        if labels is None:
            return _scores(found, None, passes.n_tokens, bool(ends))
        if are_single(labels):
            best, more = best_single(passes.model, passes.cut, states, labels, None), 0
        else:

            def again(asked: Sequence[Prompt], _: Sequence[int]) -> tuple[AnswerScores, int]:
                other = FullForward.of(passes.model, asked, passes.forward)
                return other.scores(other.batch(), ends=ends), other.n_tokens

            best, more = best_of_several(passes.cut, found, labels, again)
    return _scores(found, is_answer(passes.cut, labels, best), passes.n_tokens + more, bool(ends))


def _scores(
    found: AnswerScores, label_is_correct: Tensor | None, tokens: int, has_end: bool
) -> Scores:
    """Scores of answers; what ends one counts for whether it is right alone."""
    lengths = found.present.sum(dim=1)
    by_token = found.log_probability
    if has_end:
        last = (lengths - 1).view(-1, 1, 1).expand(-1, by_token.shape[1], -1)
        by_token, lengths = by_token.scatter(2, last, 0.0), lengths - 1
    log_probability = by_token.sum(dim=2) / lengths.unsqueeze(1)
    require_finite(found.log_probability, "log-probabilities of answers")
    return Scores(
        is_correct=found.is_best.all(dim=2).T.cpu(),
        first_is_correct=found.is_best[:, :, 0].T.cpu(),
        first_token=found.best[:, :, 0].T.cpu(),
        log_probability=log_probability.T.cpu(),
        label_is_correct=label_is_correct,
        forward_tokens=tokens,
        seconds=0.0,
    )
