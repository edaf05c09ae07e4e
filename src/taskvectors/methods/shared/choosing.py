"""Scoring candidates and choosing among them, on the validation split only."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from taskvectors.evaluate import Scores
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.run_context import RunContext, Split


def score_candidates(
    context: RunContext, split: Split, candidates: Sequence[Candidate]
) -> list[Scores]:
    """Scores of each candidate on a split; those on the same prompts share one trunk."""
    found: dict[int, Scores] = {}
    for index, candidate in enumerate(candidates):
        if candidate.constant_answer is not None:
            found[index] = constant_scores(context, split, candidate.constant_answer)
        elif candidate.logit_bias is not None:
            found[index] = context.score(split, 0, logit_bias=candidate.logit_bias)
        elif candidate.shared_demonstrations:
            found[index] = context.score_alike(split, candidate.shots)
        elif candidate.adapter is not None:
            found[index] = context.score_adapted(split, candidate.shots, candidate.adapter)
    for shots in sorted({candidate.shots for candidate in candidates}):
        chosen = [
            index
            for index, candidate in enumerate(candidates)
            if candidate.shots == shots and index not in found
        ]
        if not chosen:
            continue
        prompts = context.prompts(split, shots)
        scores = context.score(split, shots, [candidates[i].branch(prompts) for i in chosen])
        for slot, index in enumerate(chosen):
            # the pass is shared, so each candidate answers for its part of it
            found[index] = replace(scores.branch(slot), seconds=scores.seconds / len(chosen))
    return [found[index] for index in range(len(candidates))]


def constant_scores(context: RunContext, split: Split, answer: str) -> Scores:
    """Scores of giving one answer to every query, without running the model."""
    prompts = context.prompts(split)
    tokens = {p.query.output: p.answer_ids for p in context.prompts("train")}[answer]
    is_correct = torch.tensor([[prompt.query.output == answer for prompt in prompts]])
    starts = torch.tensor([[prompt.answer_ids[0] for prompt in prompts]])
    return Scores(
        is_correct=is_correct,
        first_is_correct=starts == tokens[0],
        first_token=torch.full_like(starts, tokens[0]),
        # it gives no probabilities
        log_probability=torch.full((1, len(prompts)), float("nan")),
        label_is_correct=None if context.labels is None else is_correct,
        forward_tokens=0,
        seconds=0.0,
    )


def choose(scores: Sequence[Scores]) -> int:
    """Index of the best: by accuracy, then by the answers' log-probability; the first of equals."""

    def merit(index: int) -> tuple[float, float]:
        one = scores[index]
        return float(one.is_correct.double().mean()), float(one.log_probability.mean())

    return max(range(len(scores)), key=lambda index: (merit(index), -index))


def best_candidate(context: RunContext, candidates: Sequence[Candidate]) -> Candidate:
    """The candidate that does best on validation."""
    if len(candidates) == 1:
        return candidates[0]
    with torch.no_grad():
        return candidates[choose(score_candidates(context, "validation", candidates))]
