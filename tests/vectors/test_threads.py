"""Injections of several threads and tasks on one model: each acts in its own context alone.

Run with `pytest tests/vectors/test_threads.py`.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.vectors import inject, sites_at

Made = Callable[..., Any]
GENERATE = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
COMPONENTS = ("resid_post", "mlp_out", "resid_mid")


@pytest.fixture(params=[4])
def asked(
    request: Any, fresh_model: Made, ragged_prompts: Made, random_vector: Made, padded: Made
) -> Any:
    """A model, inputs, vectors, and what is generated with each of them (None first), alone."""
    model = fresh_model("llama", num_hidden_layers=request.param)
    inputs = padded([prompt.token_ids for prompt in ragged_prompts(model, 2)])
    del inputs["position_ids"]
    vectors = [None] + [
        random_vector(
            model,
            sites_at([number % min(3, model.n_layers)], [-1], COMPONENTS[number % 3]),
            seed=number,
        )
        for number in range(9)
    ]
    expected = [generated(model, inputs, vector) for vector in vectors]
    assert len({tuple(map(tuple, one)) for one in expected}) > 5
    return model, inputs, vectors, expected


def generated(model: Any, inputs: Any, vector: Any, **options: Any) -> list[list[int]]:
    if vector is None:
        found = model.hf.generate(**inputs, **(GENERATE | options))
    else:
        with inject(model, vector):
            found = model.hf.generate(**inputs, **(GENERATE | options))
    return found.tolist()


def in_threads(works: list[Callable[[], None]]) -> None:
    """Run works at once, and raise what any of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def guarded(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("use_cache", [True, False])
def test_threads_with_vectors_of_their_own_and_with_none_are_all_right(
    asked: Any, *, use_cache: bool
) -> None:
    model, inputs, vectors, expected = asked

    def works(number: int) -> None:
        for turn in range(6):
            which = (number + turn) % len(vectors)
            found = generated(model, inputs, vectors[which], use_cache=use_cache)
            assert found == expected[which], (number, turn)

    in_threads([partial(works, number) for number in range(8)])


def test_a_vector_acts_in_threads_that_run_in_a_copy_of_its_context_and_in_no_other(
    asked: Any,
) -> None:
    model, inputs, vectors, expected = asked
    found: dict[str, list[list[int]]] = {}

    def call(name: str) -> None:
        found[name] = model.hf.generate(**inputs, **GENERATE).tolist()

    with inject(model, vectors[1]):
        context = contextvars.copy_context()
        in_threads([lambda: context.run(call, "copy"), lambda: call("other")])
        call("own")
    assert found == {"copy": expected[1], "other": expected[0], "own": expected[1]}


def test_a_copy_of_the_context_may_call_in_many_threads_at_once(asked: Any) -> None:
    model, inputs, vectors, expected = asked
    found: list[list[list[int]]] = []

    def call() -> None:
        cached = model.hf.generate(**inputs, **GENERATE, use_cache=True)
        whole = model.hf.generate(**inputs, **GENERATE, use_cache=False)
        found.extend([cached.tolist(), whole.tolist()])

    with inject(model, vectors[2]):
        contexts = [contextvars.copy_context() for _ in range(6)]
        in_threads([partial(context.run, call) for context in contexts])
    assert found == [expected[2]] * 12


def test_asyncio_tasks_have_vectors_of_their_own(asked: Any) -> None:
    model, inputs, vectors, expected = asked

    async def work(number: int) -> None:
        vector = vectors[number % len(vectors)]
        for turn in range(3):
            if vector is None:
                found = await asyncio.to_thread(model.hf.generate, **inputs, **GENERATE)
            else:
                with inject(model, vector):
                    await asyncio.sleep(0)
                    if turn == 1:  # in the task's own thread
                        found = model.hf.generate(**inputs, **GENERATE)
                    else:
                        found = await asyncio.to_thread(model.hf.generate, **inputs, **GENERATE)
                    await asyncio.sleep(0)
            assert found.tolist() == expected[number % len(vectors)]

    async def run_all() -> None:
        await asyncio.gather(*(work(number) for number in range(12)))

    asyncio.run(run_all())


def test_a_call_in_a_foreign_thread_alone_is_an_error_that_names_the_context(asked: Any) -> None:
    model, inputs, vectors, _ = asked
    with (
        pytest.raises(TaskVectorsError, match="copy of its context"),
        inject(model, vectors[1]),
    ):
        in_threads([lambda: model.hf.generate(**inputs, **GENERATE)])


def test_the_compilers_stance_is_as_before_whoever_leaves_last(asked: Any) -> None:
    from torch._dynamo import eval_frame

    model, inputs, vectors, _ = asked
    assert eval_frame._stance.stance == "default"
    first, second = inject(model, vectors[1]), inject(model, vectors[2])

    def leave() -> None:
        with second:
            model.hf(**inputs)
            entered.set()
            left.wait(30)
            assert eval_frame._stance.stance == "force_eager"

    entered, left = threading.Event(), threading.Event()
    with first:
        model.hf(**inputs)
        thread = threading.Thread(target=leave)
        thread.start()
        entered.wait(30)
    left.set()
    thread.join()
    assert eval_frame._stance.stance == "default"


def test_a_call_of_another_thread_is_not_held_to_what_injections_allow(asked: Any) -> None:
    model, _, vectors, _ = asked
    longer = torch.full((1, model.context_length + 1), 5)
    with inject(model, vectors[1]):
        in_threads([lambda: model.hf(input_ids=longer, logits_to_keep=1)])
        model.hf(input_ids=longer[:, :4])


def test_states_do_not_mix_between_threads_in_the_middle_of_a_block(asked: Any) -> None:
    model, inputs, vectors, _ = asked
    with torch.no_grad():
        alone = [logits(model, inputs, vector) for vector in vectors]

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(8):
                torch.testing.assert_close(
                    logits(model, inputs, vectors[number]), alone[number], atol=1e-5, rtol=1e-5
                )

    in_threads([partial(work, number) for number in range(6)])


def logits(model: Any, inputs: Any, vector: Any) -> torch.Tensor:
    if vector is None:
        return model.hf(**inputs).logits
    with inject(model, vector):
        return model.hf(**inputs).logits


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("asked", [1], indirect=True)
def test_fifty_threads_of_twenty_generations_are_all_right(asked: Any) -> None:
    model, inputs, vectors, expected = asked
    shortest = {"max_new_tokens": 2, "min_new_tokens": 2}  # a prompt, and a step after it
    expected = [[row[:-1] for row in one] for one in expected]
    wrong: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for turn in range(20):
            which = (number + turn) % len(vectors)  # every tenth is a plain call
            if generated(model, inputs, vectors[which], **shortest) != expected[which]:
                wrong.append((number, turn))

    in_threads([partial(work, number) for number in range(50)])
    assert not wrong


@pytest.mark.slow(small_models=True)
def test_tasks_of_asyncio_that_generate_in_threads_are_all_right(asked: Any) -> None:
    model, inputs, vectors, expected = asked

    async def run_all() -> list[list[list[int]]]:
        work = partial(asyncio.to_thread, generated, model, inputs)
        return await asyncio.gather(*(work(vectors[n % len(vectors)]) for n in range(200)))

    assert asyncio.run(run_all()) == [expected[n % len(vectors)] for n in range(200)]
