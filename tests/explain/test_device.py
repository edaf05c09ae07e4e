"""Every analysis on a device that has no float64 and mixes with nothing of the CPU's.

Run with `pytest tests/explain/test_device.py`.
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from fake_device import fake_device, moved

from taskvectors.explain import ANALYSES, Case
from taskvectors.vectors import Site, TaskVector, VectorOrigin

WORDS = ("cold", "rouge", "maison", "small", "yes")
PAIRS = [(f"{'ab'[n % 2]}{n}", WORDS[n % 5]) for n in range(15)]
WITHOUT = ("bijections", "composition")
"""What asks for tasks of its own; it learns and scores as the others do."""
FAST = ("key-heads", "states", "path-expansion")


def case_of(model: Any, small_bench: Any) -> Case:
    def vector(task: str, seed: int) -> TaskVector:
        values = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(seed))
        return TaskVector(
            values=values,
            sites=(Site(layer=1, position=-1),),
            origin=VectorOrigin(task=task, method="learned", seed=seed),
        )

    own, seed, others = vector("words", 0), vector("words", 1), vector("others", 2)
    contexts = [
        small_bench(model, name, pairs, (6, 3, 4))
        for name, pairs in (("words", PAIRS), ("others", PAIRS[::-1]))
    ]
    other = Case(context=contexts[1], vector=others, limit=3)
    return Case(context=contexts[0], vector=own, vectors=(own, seed, others), other=other, limit=3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else pytest.mark.slow(small_models=True))
        for name in ANALYSES
        if name not in WITHOUT
    ],
)
def test_an_analysis_gives_there_what_it_gives_on_the_cpu(
    fresh_model: Any, small_bench: Any, name: str
) -> None:
    plain, model = fresh_model("llama"), fresh_model("llama")

    def rows(of: Any) -> pd.DataFrame:
        case = case_of(of, small_bench)
        if name == "transfer":
            case = replace(case, vectors=case.vectors[::2])
        return ANALYSES[name].run(case).to_frame()

    expected = rows(plain)
    with fake_device():
        moved(model.hf)
        assert model.device.type == "mps"
        found = rows(model)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-4)
