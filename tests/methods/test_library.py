"""`library`: whose vector a query gets, that it is that vector, and who gets none.

Run with `pytest tests/methods/test_library.py`.
"""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, TaskVectorsError, VectorMismatchError
from taskvectors.methods import RunContext
from taskvectors.methods.library import Library, Retriever, fit_retriever, library
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.tasks import load_task
from taskvectors.vectors import TaskVector, sites_at

NAMES = ("capitalize", "number-word", "sentiment")  # in the order of their folders
SMALL = {"n_train": 64, "n_validation": 20, "n_test": 20}


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    model = tiny_model("llama")
    return RunContext(model=model, task=load_task(NAMES[1], **SMALL), template="arrow", shots=2)


@pytest.fixture(scope="module")
def shelf(context: RunContext, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A library of three tasks' vectors, at other layers and positions."""
    folder = tmp_path_factory.mktemp("library")
    for layer, name in enumerate(NAMES):
        own = replace_task(context, name)
        places = (-1, -2) if layer else ("last",)
        (one,) = vanilla(own, Vanilla(layers=(layer,), positions=places, strengths=(1.0,)))
        one.vector.save(folder / name)
    return folder


def replace_task(context: RunContext, name: str) -> RunContext:
    task = load_task(name, **SMALL)
    return RunContext(
        model=context.model, task=task, template=context.template, shots=context.shots
    )


def test_a_query_with_a_vector_gets_just_that_vector_and_one_without_none(
    context: RunContext, shelf: Any
) -> None:
    config = Library(folder=str(shelf), thresholds=(0.5, 0.0, 1.01), n_queries=8)
    some, every, none = library(context, config)
    prompts = context.prompts("test")
    vectors = [TaskVector.load(shelf / name) for name in NAMES]
    assert every.sites == tuple(site for vector in vectors for site in vector.sites)
    plain = score_candidates(context, "test", [replace(none, edits=None, edited=())])[0]
    found = score_candidates(context, "test", [some, every, none])
    torch.testing.assert_close(
        found[2].log_probability, plain.log_probability, atol=1e-4, rtol=1e-4
    )
    assert (every.edits.chosen(prompts) >= 0).all()
    for one, scores in ((some, found[0]), (every, found[1])):
        chosen = one.edits.chosen(prompts)
        for index, number in enumerate(chosen.tolist()):
            alone = plain
            if number >= 0:
                subject = replace(one, edits=None, vector=vectors[number])
                alone = score_candidates(context, "test", [subject])[0]
            torch.testing.assert_close(
                scores.log_probability[0, index],
                alone.log_probability[0, index],
                atol=1e-4,
                rtol=1e-4,
            )
            assert (number >= 0) or one is some


def test_queries_are_told_apart_by_their_task(context: RunContext, shelf: Any) -> None:
    (one,) = library(context, Library(folder=str(shelf), thresholds=(0.0,)))
    for number, name in enumerate(NAMES):
        chosen = one.edits.chosen(replace_task(context, name).prompts("test"))
        assert float((chosen == number).float().mean()) > 0.8, name
    assert one.edits.retriever.held_out_accuracy > 0.8


def test_a_retriever_finds_the_layer_where_tasks_differ_and_abstains_elsewhere() -> None:
    generator = torch.Generator().manual_seed(0)

    def states(task: int, n: int) -> torch.Tensor:
        noise = torch.randn(3, n, 8, generator=generator)
        noise[1, :, task] += 12  # only at the second of three layers
        return noise

    found = fit_retriever([states(i, 20) for i in range(2)], [states(i, 10) for i in range(2)])
    assert found.layer == 0
    assert found.held_out_accuracy == 1.0
    other = torch.randn(50, 8, generator=generator)
    other[:, 5] += 12  # of neither task
    own = states(1, 50)[1]
    assert (found.choose(own, 0.5) == 1).all()
    assert (found.choose(other, 0.8) == -1).float().mean() > 0.8
    assert (found.choose(other, 0.0) >= 0).all()


def test_probabilities_are_logistic_in_the_direction_of_the_state() -> None:
    one = Retriever(
        layer=0,
        mean=torch.tensor([0.1, 0.2]),
        weights=torch.tensor([[1.0, -2.0], [3.0, 0.5]]),
        bias=torch.tensor([0.3, -0.1]),
        held_out_accuracy=1.0,
    )
    x, y = 0.6 - 0.1, 0.8 - 0.2
    logits = torch.tensor([[x + 3 * y + 0.3, -2 * x + 0.5 * y - 0.1]])
    torch.testing.assert_close(one.probabilities(torch.tensor([[3.0, 4.0]])), logits.sigmoid())


# --- refusals


def test_a_library_that_is_none_is_an_error(context: RunContext, tmp_path: Any) -> None:
    with pytest.raises(DataError, match="the library '' is no folder"):
        library(context, Library())
    with pytest.raises(DataError, match="holds 0 vectors"):
        library(context, Library(folder=str(tmp_path)))


def made(context: RunContext, **about: Any) -> TaskVector:
    return TaskVector(
        values=torch.ones(1, context.model.d_model),
        sites=sites_at([1], [-1]),
        **{"origin": context.origin("vanilla")} | about,
    )


def test_two_vectors_of_one_task_are_an_error(context: RunContext, tmp_path: Any) -> None:
    for name in "ab":
        made(context).save(tmp_path / name)
    with pytest.raises(DataError, match=r"2 vectors, of number-word, number-word; .* another task"):
        library(context, Library(folder=str(tmp_path)))


@pytest.mark.parametrize("case", ["replaces", "other model", "unknown task"])
def test_a_vector_that_cannot_be_used_is_an_error(
    context: RunContext, tiny_model: Any, tmp_path: Any, case: str
) -> None:
    made(context).save(tmp_path / "a")
    origin = replace(context.origin("vanilla"), task="antonym")
    if case == "replaces":
        made(context, operation="replace", origin=origin).save(tmp_path / "b")
        error: Any = TaskVectorsError
    elif case == "other model":
        made(context, origin=origin.moved_to(tiny_model("qwen2"))).save(tmp_path / "b")
        error = VectorMismatchError
    else:
        made(context, origin=replace(origin, task="juggling")).save(tmp_path / "b")
        error = DataError
    with pytest.raises(error, match=r"replaces what|does not fit|juggling"):
        library(context, Library(folder=str(tmp_path)))


def test_a_vector_that_may_have_seen_the_pairs_is_warned_of(
    context: RunContext, shelf: Any, caplog: pytest.LogCaptureFixture
) -> None:
    again = RunContext(
        model=context.model, task=load_task(NAMES[1], seed=3, **SMALL), template="arrow", seed=3
    )
    with caplog.at_level(logging.WARNING):
        library(again, Library(folder=str(shelf), n_queries=4))
    assert "made with seed 0: under seed 3 it may have seen" in caplog.text
