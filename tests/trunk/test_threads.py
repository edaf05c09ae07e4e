"""Branches of several threads on one model: each sees its own calls alone.

Run with `pytest tests/trunk/test_threads.py`.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch

from taskvectors.evaluate import score
from taskvectors.models import capture
from taskvectors.trunk import Edit


@pytest.fixture(autouse=True)
def _switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("name", ["llama", "qwen3_5_text", "mamba"])  # one of each engine
def test_scores_of_threads_are_those_of_one_after_another(
    tiny_model: Any, ragged_prompts: Any, name: str
) -> None:
    model = tiny_model(name)
    generator = torch.Generator().manual_seed(0)
    works = [
        (
            ragged_prompts(model, 3, seed=seed),
            [[Edit(layer=seed % 3, value=torch.randn(model.d_model, generator=generator))]],
        )
        for seed in range(4)
    ]
    tokens = torch.tensor([[5, 6, 7, 8]])
    attention = model.config._attn_implementation

    def scored(number: int) -> Any:
        prompts, branches = works[number % 4]
        return score(model, prompts, branches).log_probability

    def called(_: int) -> Any:
        with torch.no_grad():
            return model.hf(tokens).logits

    def captured(number: int) -> Any:
        kept: list[Any] = []
        with capture(model, number % 4, "resid_post", kept.append):
            called(0)
        (state,) = kept  # of this call alone
        return state

    kinds = [partial(work, number) for number in range(4) for work in (scored, called, captured)]
    expected = [kind() for kind in kinds]
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(kind) for kind in kinds * 8]
    for place, future in enumerate(found):
        torch.testing.assert_close(future.result(), expected[place % len(kinds)])
    assert model.config._attn_implementation == attention
