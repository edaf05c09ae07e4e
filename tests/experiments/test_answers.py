"""Answers in words against generation by hand, one token of one prompt at a time.

Run with `pytest tests/experiments/test_answers.py`.
"""

from typing import Any

import pytest
import torch
from full_pass import full_logits

from taskvectors.experiments.answers import shown_answers
from taskvectors.methods import Candidate, RunContext
from taskvectors.tasks import Example, Task
from taskvectors.vectors import Site, TaskVector


@pytest.fixture
def context(tiny_model: Any) -> RunContext:
    """Inputs of several lengths, so that rows are padded; answers of one and of several tokens."""
    pairs = [
        Example(input="a" * (3 * i) + str(i), output=("cold", "rouge house")[i % 2])
        for i in range(12)
    ]
    task = Task(
        name="t",
        description="",
        template="arrow",
        source="",
        license="",
        seed=0,
        train=tuple(pairs[:6]),
        validation=(),
        test=tuple(pairs[6:]),
    )
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def by_hand(context: RunContext, candidate: Candidate, prompt: Any, n: int) -> list[int]:
    """Greedy tokens, each from a whole pass over everything so far, edited at the prompt alone."""
    from dataclasses import replace

    said: list[int] = []
    while len(said) < n:
        asked = replace(prompt, answer_ids=(*said, 0))
        with torch.no_grad():
            said.append(int(full_logits(context.model, asked, candidate.branch(()))[-1].argmax()))
        if said[-1] == context.model.tokenizer.eos_token_id:
            break
    return said


def vector(model: Any, direction: torch.Tensor) -> TaskVector:
    return TaskVector(values=direction.unsqueeze(0), sites=(Site(2, -1),))


def test_answers_are_greedy_continuations_up_to_the_end_of_the_line(context: RunContext) -> None:
    model = context.model
    noise = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) * 3
    candidates = {
        "plain": Candidate(method="plain"),
        "shown": Candidate(method="shown", shots=2),
        "edited": Candidate(method="edited", vector=vector(model, noise), strength=-1.5),
    }
    found = shown_answers(context, candidates, 4)
    assert [item["input"] for item in found] == [pair.input for pair in context.task.test[:4]]
    texts = set()
    for name, candidate in candidates.items():
        prompts = context.ask(context.task.test[:4], candidate.shots)
        longest = max(len(prompt.answer_ids) for prompt in prompts)
        for item, prompt in zip(found, prompts, strict=True):
            said = by_hand(context, candidate, prompt, longest + 4)
            text = model.tokenizer.decode(said, skip_special_tokens=True)
            assert item["predictions"][name] == text.strip().split("\n")[0].strip()
            is_right = tuple(said[: len(prompt.answer_ids)]) == prompt.answer_ids
            assert item["correct"][name] == is_right
            texts.add(text)
    assert len(texts) > 4


def test_an_answer_is_right_if_it_begins_with_the_right_tokens(context: RunContext) -> None:
    """A vector that makes the model say one word first, whatever comes then."""
    model = context.model
    cold = context.prompts("test")[0].answer_ids
    row = model.unembedding.weight[cold[0]]
    said = TaskVector(values=(row / row.norm() * 300).unsqueeze(0), sites=(Site(3, -1),))
    found = shown_answers(context, {"v": Candidate(method="v", vector=said)}, 6)
    assert [item["correct"]["v"] for item in found] == [True, False] * 3
    assert all(item["predictions"]["v"].startswith("cold") for item in found)


def test_no_more_items_are_shown_than_there_are(context: RunContext) -> None:
    assert len(shown_answers(context, {"plain": Candidate(method="plain")}, 50)) == 6
