"""The slow way to score: one prompt at a time, whole, and arithmetic by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def partly_right() -> Callable[..., list[Any]]:
    """`partly_right(model, prompts, branches)`: some answers are what some branch itself would say.

    Prompt by prompt in turn: the answer of the first branch, of the second, ..., the one it had.
    """
    import torch
    from full_pass import full_logits

    def greedy(model: Any, prompt: Any, branch: Any, number: int) -> tuple[int, ...]:
        said: tuple[int, ...] = ()
        for _ in prompt.answer_ids:
            asked = replace(prompt, answer_ids=(*said, 0))
            with torch.no_grad():
                said += (int(full_logits(model, asked, branch, number)[-1].argmax()),)
        return said

    def answered(model: Any, prompts: Sequence[Any], branches: Sequence[Any]) -> list[Any]:
        turns = [*branches, None]
        found = []
        for number, prompt in enumerate(prompts):
            branch = turns[number % len(turns)]
            said = prompt.answer_ids if branch is None else greedy(model, prompt, branch, number)
            found.append(replace(prompt, answer_ids=said))
        return found

    return answered


@pytest.fixture(scope="session")
def one_by_one() -> Callable[..., dict[str, Any]]:
    """`one_by_one(model, prompts, branches, labels=None, bias=None)`: every score, by loops.

    A dictionary of `[branch, prompt]` tensors with the names that `Scores` uses.
    """
    import torch
    from full_pass import full_logits

    def token_scores(
        model: Any, prompt: Any, branch: Any, number: int, bias: Any
    ) -> tuple[Any, Any]:
        with torch.no_grad():
            logits = full_logits(model, prompt, branch, number)
        if bias is not None:
            logits[0] += bias
        answer = torch.tensor(prompt.answer_ids)
        chosen = logits.log_softmax(dim=1).gather(1, answer[:, None])[:, 0]
        return logits.argmax(dim=1), chosen

    def label_of(model: Any, prompt: Any, branch: Any, number: int, labels: Any, bias: Any) -> str:
        def total(tokens: tuple[int, ...]) -> float:
            asked = replace(prompt, answer_ids=tokens)
            return float(token_scores(model, asked, branch, number, bias)[1].sum())

        return max(labels, key=lambda label: total(labels[label]))

    def run(
        model: Any,
        prompts: Sequence[Any],
        branches: Sequence[Any],
        labels: Any = None,
        bias: Any = None,
    ) -> dict[str, Any]:
        found: dict[str, list[Any]] = {}
        for branch in branches:
            for number, prompt in enumerate(prompts):
                best, chosen = token_scores(model, prompt, branch, number, bias)
                hits = best.tolist() == list(prompt.answer_ids)
                found.setdefault("is_correct", []).append(hits)
                found.setdefault("first_token", []).append(int(best[0]))
                found.setdefault("first_is_correct", []).append(
                    int(best[0]) == prompt.answer_ids[0]
                )
                found.setdefault("log_probability", []).append(float(chosen.mean()))
                if labels is not None:
                    label = label_of(model, prompt, branch, number, labels, bias)
                    found.setdefault("label_is_correct", []).append(label == prompt.query.output)
        shape = (len(branches), len(prompts))
        return {name: torch.tensor(values).view(shape) for name, values in found.items()}

    return run
