"""Benches of small tasks, and vectors that make a model say one word."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest


@pytest.fixture(scope="session")
def small_bench() -> Callable[..., Any]:
    """`small_bench(model, name, pairs, sizes=(6, 3, 6))`: pairs as a task, split in order."""
    from taskvectors.methods import RunContext
    from taskvectors.tasks import Example, Task

    def make(
        model: Any,
        name: str,
        pairs: Sequence[tuple[str, str]],
        sizes: Sequence[int] = (6, 3, 6),
    ) -> RunContext:
        examples = tuple(Example(input=x, output=y) for x, y in pairs)
        first, second = sizes[0], sizes[0] + sizes[1]
        task = Task(
            name=name,
            description="",
            template="arrow",
            source="",
            license="",
            seed=0,
            train=examples[:first],
            validation=examples[first:second],
            test=examples[second : second + sizes[2]],
        )
        return RunContext(model=model, task=task, shots=2)

    return make


@pytest.fixture(scope="session")
def saying() -> Callable[..., Any]:
    """`saying(model, task, **{word: weight})`: a vector that makes a Llama say the heaviest word.

    It is added at the last block, along the words' unembeddings. Words have to be one token after
    the arrow template's cue.
    """
    import torch

    from taskvectors.vectors import Site, TaskVector, VectorOrigin

    def make(model: Any, task: str, **words: float) -> TaskVector:
        total = torch.zeros(model.d_model)
        for word, weight in words.items():
            (token,) = model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            row = model.unembedding.weight[token] * model.hf.model.norm.weight
            total += weight * row / row.norm()
        return TaskVector(
            values=100 * total.unsqueeze(0),
            sites=(Site(layer=model.n_layers - 1, position=-1),),
            origin=VectorOrigin(task=task),
        )

    return make
