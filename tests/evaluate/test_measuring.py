"""`evaluate` and `dose_response`: what is measured is the model with the vector as asked.

Run with `pytest tests/evaluate/test_measuring.py`.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, MemoryBudgetError, PromptTooLongError, VectorMismatchError
from taskvectors.evaluate import Measures, dose_response, evaluate, label_starts, measure, score
from taskvectors.prompts import build_prompts
from taskvectors.tasks import Example
from taskvectors.vectors import Site, TaskVector, VectorOrigin

PAIRS = [Example(input=f"a{i}", output=("cold", "rouge house")[i % 2]) for i in range(6)]
POOL = [Example(input=f"b{i}", output="small") for i in range(5)]


@pytest.fixture
def vector_of() -> Callable[..., TaskVector]:
    """`vector_of(model, template="")`: large random values at two sites."""

    def make(model: Any, template: str = "") -> TaskVector:
        generator = torch.Generator().manual_seed(0)
        return TaskVector(
            values=torch.randn(2, model.d_model, generator=generator) * 2,
            sites=(Site(1, -1), Site(2, -2)),
            origin=VectorOrigin.of_model(model, method="random", template=template),
        )

    return make


def same(found: Measures, expected: Measures) -> None:
    for name, value in asdict(expected).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-5), name


# --- evaluate


def test_without_a_vector_the_plain_model_is_measured(tiny_model: Any, one_by_one: Any) -> None:
    model = tiny_model("llama")
    prompts = build_prompts(model.tokenizer, "qa", PAIRS)
    expected = one_by_one(model, prompts, [()])
    found = evaluate(model, PAIRS)
    assert found.n == 6
    assert found.label_accuracy is None
    assert found.accuracy == float(expected["is_correct"].float().mean())
    assert found.first_token_accuracy == float(expected["first_is_correct"].float().mean())
    logprob = float(expected["log_probability"].mean())
    assert found.answer_logprob == pytest.approx(logprob, abs=1e-4)


def test_with_a_vector_the_model_with_its_edits_is_measured(
    tiny_model: Any, one_by_one: Any, vector_of: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    vector = vector_of(model)
    prompts = build_prompts(model.tokenizer, "arrow", PAIRS, demonstrations=POOL, shots=2, seed=5)
    expected = one_by_one(model, prompts, [vector.edits(-0.5)])
    found = evaluate(
        model,
        PAIRS,
        vector,
        template="arrow",
        shots=2,
        demonstrations=POOL,
        seed=5,
        strength=-0.5,
    )
    logprob = float(expected["log_probability"].mean())
    assert found.answer_logprob == pytest.approx(logprob, abs=1e-4)
    assert found.answer_logprob != pytest.approx(evaluate(model, PAIRS, vector).answer_logprob)


def test_the_template_is_the_one_that_the_vector_was_made_with(
    tiny_model: Any, vector_of: Any
) -> None:
    model = tiny_model("llama")
    arrow = vector_of(model, template="arrow")
    same(evaluate(model, PAIRS, arrow), evaluate(model, PAIRS, arrow, template="arrow"))
    logprobs = {
        evaluate(model, PAIRS, arrow, template=template).answer_logprob
        for template in (None, "qa", "arrow")
    }
    assert len(logprobs) == 2
    unsaid = vector_of(model)
    same(evaluate(model, PAIRS, unsaid), evaluate(model, PAIRS, unsaid, template="qa"))


def test_strength_zero_is_the_plain_run(tiny_model: Any, vector_of: Any) -> None:
    model = tiny_model("llama")
    vector = vector_of(model, template="qa")
    assert evaluate(model, PAIRS, vector, strength=0.0) == evaluate(model, PAIRS)
    assert evaluate(model, PAIRS, vector) != evaluate(model, PAIRS)


def test_a_vector_of_another_model_is_refused(
    tiny_model: Any, fresh_model: Any, vector_of: Any
) -> None:
    vector = vector_of(tiny_model("llama"))
    with pytest.raises(VectorMismatchError):
        evaluate(fresh_model("llama", seed=1), PAIRS, vector)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"shots": 6, "demonstrations": POOL}, DataError),
        ({"shots": 1}, DataError),
        ({"memory": 1000}, MemoryBudgetError),
    ],
    ids=["more shots than pairs", "no pairs to show", "too little memory"],
)
def test_what_cannot_be_measured_is_a_users_error(
    tiny_model: Any, asked: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        evaluate(tiny_model("llama"), PAIRS, **asked)


def test_no_pairs_are_an_error(tiny_model: Any) -> None:
    with pytest.raises(DataError, match="no pairs to evaluate on"):
        evaluate(tiny_model("llama"), [])


def test_a_prompt_over_the_context_is_an_error(fresh_model: Any) -> None:
    model = fresh_model("llama", max_position_embeddings=16)
    with pytest.raises(PromptTooLongError):
        evaluate(model, PAIRS, shots=3, demonstrations=POOL)


# --- strengths


def test_each_strength_is_measured_as_the_vector_times_it(
    tiny_model: Any, ragged_prompts: Any, partly_right: Any, vector_of: Any
) -> None:
    model = tiny_model("gemma2")
    vector = vector_of(model)
    branches = [vector.edits(2.0), vector.edits(-1.5)]
    prompts = partly_right(model, ragged_prompts(model, 9), branches)
    strengths = [2.0, 0.0, -1.5, 0.25]
    found = dose_response(model, prompts, vector, strengths)
    assert [strength for strength, _ in found] == [0.0, 2.0, -1.5, 0.25]
    for strength, measures in found:
        scaled = (vector * strength).edits()
        same(measures, measure(score(model, prompts, [scaled]), label_starts(prompts)))
    values = [measures.answer_logprob for _, measures in found]
    assert len(set(values)) == 4
    assert found[1][1].accuracy > 0
    assert found[2][1].accuracy > 0


def test_the_dose_of_nothing_is_the_plain_run(
    tiny_model: Any, ragged_prompts: Any, vector_of: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 4)
    plain = measure(score(model, prompts), label_starts(prompts))
    ((strength, without),) = dose_response(model, prompts, None, [1.0, 2.0])
    assert strength == 0
    same(without, plain)
    same(dose_response(model, prompts, vector_of(model), [1.0])[0][1], plain)


def test_labels_give_every_dose_its_label_accuracy(
    tiny_model: Any, ragged_prompts: Any, one_by_one: Any, vector_of: Any
) -> None:
    model = tiny_model("llama")
    labels = {"a": (5,), "b": (31, 8)}
    prompts = [
        replace(prompt, query=Example(input="", output="ab"[number % 2]))
        for number, prompt in enumerate(ragged_prompts(model, 6))
    ]
    vector = vector_of(model)
    found = dose_response(model, prompts, vector, [3.0], labels=labels)
    expected = one_by_one(model, prompts, [(), vector.edits(3.0)], labels)["label_is_correct"]
    assert [one.label_accuracy for _, one in found] == expected.double().mean(dim=1).tolist()
