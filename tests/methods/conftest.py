"""Small tasks, benches, and what a model computes, read off one whole pass per prompt."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest


@pytest.fixture(scope="session")
def task_of() -> Callable[..., Any]:
    """`task_of(answer, sizes=(12, 6, 6))`: inputs of several lengths, all different.

    `answer` is the answer to all of them, or gives one for the number of the input.
    """
    from taskvectors.tasks import Example, Task

    def make(
        answer: str | Callable[[int], str] = "cold", sizes: Sequence[int] = (12, 6, 6)
    ) -> Task:
        def pair(number: int) -> Example:
            output = answer if isinstance(answer, str) else answer(number)
            return Example(input="ab"[number % 2] * (number % 3) + str(number), output=output)

        pairs = [pair(number) for number in range(sum(sizes))]
        first, second = sizes[0], sizes[0] + sizes[1]
        return Task(
            name="small",
            description="",
            template="arrow",
            source="",
            license="",
            seed=0,
            train=tuple(pairs[:first]),
            validation=tuple(pairs[first:second]),
            test=tuple(pairs[second:]),
        )

    return make


@pytest.fixture(scope="session")
def bench_of(task_of: Callable[..., Any]) -> Callable[..., Any]:
    """`bench_of(model, answer="cold", sizes=..., **fields of RunContext)`."""
    from taskvectors.methods import RunContext

    def make(
        model: Any, answer: Any = "cold", sizes: Sequence[int] = (12, 6, 6), **about: Any
    ) -> RunContext:
        return RunContext(model=model, task=task_of(answer, sizes), **{"shots": 2} | about)

    return make


@pytest.fixture(scope="session")
def tiny_with_words(fresh_model: Callable[..., Any]) -> Callable[..., Any]:
    """`tiny_with_words(name)`: a small model of a newer type whose vocabulary the tokenizer has."""
    return cache(lambda name: fresh_model(name, vocab_size=397))


@pytest.fixture
def gpu_model(fresh_model: Callable[..., Any]) -> Callable[[str], Any]:
    """`gpu_model(name)`: the small model of that name on the GPU; skips where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")

    def build(name: str) -> Any:
        model = fresh_model(name)
        model.hf.to("cuda")
        return model

    return build


@pytest.fixture(scope="session")
def states_of() -> Callable[..., Any]:
    """`states_of(model, prompt)`: `resid_post` from `embed` up, `[layer, pos, d_model]`."""
    import torch

    from taskvectors.models import capture

    def run(model: Any, prompt: Any) -> torch.Tensor:
        found: list[torch.Tensor] = []
        with torch.no_grad(), ExitStack() as stack:
            for layer in range(-1, model.n_layers):
                stack.enter_context(capture(model, layer, "resid_post", found.append))
            model.hf(input_ids=torch.tensor([prompt.token_ids]))
        return torch.cat(found)

    return run


MIXED = ("cold", "rouge house", "small", "big red")


@pytest.fixture(scope="session")
def mixed() -> Callable[[int], str]:
    """Answers of one and of several tokens, in turn."""
    return lambda number: MIXED[number % len(MIXED)]


@pytest.fixture
def body_calls() -> Iterator[Callable[[Any], list[int]]]:
    """`body_calls(model)`: tokens of each forward pass of its body from now on."""
    handles = []

    def watch(model: Any) -> list[int]:
        calls: list[int] = []

        def note(_: Any, __: Any, given: dict[str, Any]) -> None:
            calls.append(given["input_ids"].numel())

        handles.append(model.body.register_forward_pre_hook(note, with_kwargs=True))
        return calls

    yield watch
    for handle in handles:
        handle.remove()
