"""From scores to measures: each number by hand, and when a measure has no value.

Run with `pytest tests/evaluate/test_measures.py`.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import branches_of

from taskvectors.evaluate import (
    Scores,
    label_starts,
    label_tokens,
    measure,
    score,
    wilson_interval,
)
from taskvectors.prompts import build_prompts
from taskvectors.tasks import Example, Task

PAIRS = (("aa", "cold"), ("bb", "small"), ("cc", "cold"), ("dd", "rouge house"))


def scores(**changes: Any) -> Scores:
    """Of one branch on five prompts."""
    given: dict[str, Any] = {
        "is_correct": torch.tensor([[True, False, True, False, False]]),
        "first_is_correct": torch.tensor([[True, True, True, False, True]]),
        "first_token": torch.tensor([[7, 7, 8, 9, 3]]),
        "log_probability": torch.tensor([[-0.1, -0.5, -0.2, -3.0, -1.2]]),
        "label_is_correct": torch.tensor([[True, True, True, True, False]]),
        "forward_tokens": 50,
        "seconds": 1.0,
    }
    return Scores(**given | changes)


def task(train: Any = PAIRS, test: Any = PAIRS) -> Task:
    def pairs(given: Any) -> tuple[Example, ...]:
        return tuple(Example(input=x, output=y) for x, y in given)

    return Task(
        name="t",
        description="",
        template="arrow",
        source="",
        license="",
        seed=0,
        train=pairs(train),
        validation=(),
        test=pairs(test),
    )


# --- numbers


def test_measures_are_shares_and_means_of_the_scores() -> None:
    found = measure(scores(), frozenset({7, 9}))
    assert found.accuracy == 0.4
    assert (found.ci_low, found.ci_high) == wilson_interval(2, 5)
    assert found.n == 5
    assert found.first_token_accuracy == 0.8
    assert found.label_accuracy == 0.8
    assert found.in_label_set == 0.6  # 7, 7 and 9
    assert found.answer_logprob == pytest.approx(-1.0)


def test_label_accuracy_is_none_where_labels_were_not_scored() -> None:
    assert measure(scores(label_is_correct=None), frozenset()).label_accuracy is None


def test_all_measures_are_those_of_full_passes_one_prompt_at_a_time(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, one_by_one: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    labels = {"left": (5,), "right": (250, 9)}
    names = list(labels)
    drawn = ragged_prompts(model, 9, answers=(2, 2))
    branches = branches_of(model, [[{"layer": 1}]], drawn)
    prompts = [
        replace(prompt, query=Example(input="", output=names[number % 2]))
        for number, prompt in enumerate(partly_right(model, drawn, branches))
    ]
    starts = label_starts(prompts[:5])
    expected = {
        name: values[0].tolist()
        for name, values in one_by_one(model, prompts, branches, labels).items()
    }
    found = measure(score(model, prompts, branches, labels=labels), starts)
    assert 0 < found.accuracy < 1
    assert found.accuracy == pytest.approx(sum(expected["is_correct"]) / 9)
    assert (found.ci_low, found.ci_high) == wilson_interval(sum(expected["is_correct"]), 9)
    assert found.first_token_accuracy == pytest.approx(sum(expected["first_is_correct"]) / 9)
    assert found.label_accuracy == pytest.approx(sum(expected["label_is_correct"]) / 9)
    assert found.answer_logprob == pytest.approx(sum(expected["log_probability"]) / 9, abs=1e-4)
    begins = [token in {p.answer_ids[0] for p in prompts[:5]} for token in expected["first_token"]]
    assert 0 < sum(begins) < 9
    assert found.in_label_set == pytest.approx(sum(begins) / 9)


# --- labels


def test_labels_are_all_answers_with_the_tokens_they_have_after_a_prompt(tokenizer: Any) -> None:
    shown = build_prompts(tokenizer, "arrow", task().train)
    found = label_tokens(task(), shown)
    assert found is not None
    assert set(found) == {"cold", "small", "rouge house"}
    for label, tokens in found.items():
        assert list(tokens) == tokenizer(" " + label, add_special_tokens=False)["input_ids"]


def test_labels_are_not_known_when_training_shows_not_all_of_them(tokenizer: Any) -> None:
    lacking = task(train=PAIRS[:3])
    assert lacking.labels == ("cold", "small", "rouge house")
    assert label_tokens(lacking, build_prompts(tokenizer, "arrow", lacking.train)) is None


def test_label_starts_are_the_first_tokens_of_all_answers(tokenizer: Any) -> None:
    first, second = (
        build_prompts(tokenizer, "arrow", task().train[part]) for part in (slice(2), slice(2, None))
    )
    expected = {
        tokenizer(" " + word, add_special_tokens=False)["input_ids"][0]
        for word in ("cold", "small", "rouge")
    }
    assert label_starts(first, second) == expected
