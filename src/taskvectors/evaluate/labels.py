"""The most probable of a task's labels: from one read, or from a run for each label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from taskvectors.models import LanguageModel
from taskvectors.models.tensors import require_finite
from taskvectors.prompts import Prompt
from taskvectors.trunk import AnswerScores
from taskvectors.trunk.split import PromptSplit

Labels = Mapping[str, tuple[int, ...]]
"""A task's labels and their tokens as answers."""


def is_answer(cut: PromptSplit, labels: Labels, best: Tensor) -> Tensor:
    """Whether the best label is the right one."""
    right = torch.tensor([list(labels).index(prompt.query.output) for prompt in cut.prompts])
    return best == right


def are_single(labels: Labels) -> bool:
    """Whether every label is one token."""
    return all(len(tokens) == 1 for tokens in labels.values())


def best_single(
    model: LanguageModel, cut: PromptSplit, states: Tensor, labels: Labels, bias: Tensor | None
) -> Int[Tensor, "branch prompt"]:
    """Index of the most probable of labels of one token each, without another run."""
    at = torch.tensor(cut.first_reads, device=states.device)
    first = states[torch.arange(len(at), device=states.device), :, at]
    final = model.read_state(first)
    tokens = torch.tensor([t for (t,) in labels.values()], device=states.device)
    logits = model.unembedding.columns(
        final.flatten(0, 1), tokens.expand(final.shape[0] * final.shape[1], -1)
    )
    if bias is not None:
        logits = logits + bias[tokens]
    return logits.view(*final.shape[:2], -1).argmax(dim=2).T.cpu()


def best_of_several(
    cut: PromptSplit,
    found: AnswerScores,
    labels: Labels,
    again: Callable[[Sequence[Prompt], Sequence[int]], tuple[AnswerScores, int]],
) -> tuple[Int[Tensor, "branch prompt"], int]:
    """Index of the label with the largest summed log-probability, and the tokens that it took.

    Args:
        cut: The prompts.
        found: Scores of the right answers, which are not run again.
        labels: Labels, some of several tokens.
        again: Scores prompts with another label as their answer, given with their rows.
    """
    right = found.log_probability.sum(dim=2)
    sums, tokens = right.new_empty(len(labels), *right.shape), 0
    for at, answer in enumerate(labels.values()):
        sums[at] = right
        rows = [i for i, known in enumerate(cut.answers) if known != answer]
        if rows:
            asked = [replace(cut.prompts[row], answer_ids=answer) for row in rows]
            others, run = again(asked, rows)
            sums[at, rows] = others.log_probability.sum(dim=2)
            tokens += run
    require_finite(sums, "log-probabilities of labels")
    return sums.argmax(dim=0).T.cpu(), tokens
