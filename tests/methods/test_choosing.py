"""Scoring candidates of all kinds, and choosing among them.

Run with `pytest tests/methods/test_choosing.py`.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from taskvectors.evaluate import Scores
from taskvectors.methods import Candidate
from taskvectors.methods.shared.choosing import (
    best_candidate,
    choose,
    constant_scores,
    score_candidates,
)
from taskvectors.vectors import Site, TaskVector


def scored(hits: Sequence[int], logprobs: Sequence[float]) -> Scores:
    marks = torch.tensor([hits]).bool()
    return Scores(
        is_correct=marks,
        first_is_correct=marks,
        first_token=torch.zeros_like(marks, dtype=torch.long),
        log_probability=torch.tensor([logprobs]),
        label_is_correct=None,
        forward_tokens=0,
        seconds=0.0,
    )


def vector_at(model: Any, layer: int, seed: int = 0) -> TaskVector:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, model.d_model, generator=generator)
    return TaskVector(values=values, sites=(Site(layer, -1),))


# --- which is chosen

BETTER, SURE, UNSURE = ([1, 1], [-5.0, -5.0]), ([1, 0], [-1.0, -1.0]), ([0, 1], [-3.0, -1.0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([SURE, BETTER, UNSURE], 1),
        ([UNSURE, SURE], 1),
        ([SURE, UNSURE], 0),
        ([UNSURE, SURE, SURE, SURE], 1),
        ([BETTER], 0),
    ],
    ids=["accuracy first", "then probability", "in any order", "the first of equals", "only one"],
)
def test_the_choice_is_by_accuracy_then_by_probability_then_by_order(
    given: Any, expected: int
) -> None:
    assert choose([scored(*one) for one in given]) == expected


def test_the_best_candidate_is_the_best_on_validation_and_not_on_test(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each split has an answer of its own; one candidate says each of them."""
    model = tiny_model("llama")
    context = bench_of(model, lambda number: "small" if 12 <= number < 18 else "cold")
    tokens = [context.prompts(split)[0].answer_ids[0] for split in ("test", "validation")]
    row = model.unembedding.weight
    says = [row[token] / row[token].norm() * 100 for token in tokens]
    candidates = [
        Candidate(method="t", vector=TaskVector(values=value.unsqueeze(0), sites=(Site(3, -1),)))
        for value in says
    ]
    on_test = score_candidates(context, "test", candidates)
    assert [bool(one.is_correct.all()) for one in on_test] == [True, False]
    assert best_candidate(context, candidates) is candidates[1]
    assert best_candidate(context, candidates[:1]) is candidates[0]


# --- scoring


def test_candidates_of_all_kinds_are_scored_each_on_its_prompts_in_their_order(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed)
    bias = torch.linspace(-3, 3, model.d_vocab)
    candidates = [
        Candidate(method="a", shots=2),
        Candidate(method="b", vector=vector_at(model, 1), strength=-2.0),
        Candidate(method="c", constant_answer="cold"),
        Candidate(method="d", logit_bias=bias),
        Candidate(method="e", vector=vector_at(model, 2), shots=2),
        Candidate(method="f"),
    ]
    expected = [
        context.score("test", 2),
        context.score("test", 0, [vector_at(model, 1).edits(-2.0)]),
        constant_scores(context, "test", "cold"),
        context.score("test", 0, logit_bias=bias),
        context.score("test", 2, [vector_at(model, 2).edits()]),
        context.score("test", 0),
    ]
    found = score_candidates(context, "test", candidates)
    for one, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one.log_probability, alone.log_probability, atol=1e-4, rtol=1e-4, equal_nan=True
        )
        assert torch.equal(one.first_token, alone.first_token)
        assert one.is_correct.shape == (1, 6)


def test_a_constant_answer_is_right_where_it_is_the_answer(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), lambda i: ("big red", "big hot", "cold")[i % 3])
    found = constant_scores(context, "test", "big red")
    assert found.is_correct.tolist() == [[True, False, False] * 2]
    # both begin with the same token
    assert found.first_is_correct.tolist() == [[True, True, False] * 2]
    assert found.first_token.unique().numel() == 1
    assert found.label_is_correct is not None
    assert torch.equal(found.label_is_correct, found.is_correct)
    assert found.log_probability.isnan().all()
    assert found.forward_tokens == 0
