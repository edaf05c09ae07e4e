"""From a case to its maps: which vectors are followed, and that maps are fitted once.

Run with `pytest tests/explain/test_layer_fits.py`.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from taskvectors.explain import ANALYSES, Case, Result
from taskvectors.explain.shared.layer_fits import fits_of, layered_vectors
from taskvectors.vectors import Site, TaskVector, VectorOrigin

MINE = ("propagation", "rotation", "interpolation", "transfer")


def vector_at(layer: int, task: str = "words", seed: int = 0) -> TaskVector:
    generator = torch.Generator().manual_seed(layer + 10 * seed)
    return TaskVector(
        values=torch.randn(1, 32, generator=generator),
        sites=(Site(layer=layer, position=-1),),
        origin=VectorOrigin(task=task, seed=seed, method="learned"),
    )


@pytest.fixture(scope="module")
def case(tiny_model: Any, small_bench: Any) -> Case:
    model = tiny_model("llama")
    words = ("cold", "rouge", "maison", "small", "yes")
    pairs = [(f"{'ab'[n % 2]}{n}", words[n % 5]) for n in range(15)]
    context, other = (small_bench(model, name, pairs) for name in ("words", "others"))
    vector = vector_at(1)
    return Case(
        context=context,
        vector=vector,
        vectors=(vector, vector_at(3), vector_at(1, task="others")),
        other=Case(context=other, vector=vector_at(1, task="others", seed=1)),
        limit=4,
    )


def test_a_vector_is_followed_beside_those_of_its_task_at_other_layers(case: Case) -> None:
    assert {vector.layers for vector in layered_vectors(case)} == {(1,), (3,)}
    # of two at one layer, the explained one
    twin = replace(case, vectors=(vector_at(1, seed=1), *case.vectors))
    assert case.vector in layered_vectors(twin)
    assert len(layered_vectors(twin)) == 2


def test_maps_are_fitted_once_for_all_analyses(case: Case) -> None:
    fits = fits_of(case)
    assert fits_of(case) is fits
    assert [fit.fitted.layer for fit in fits.fits] == [1, 3]
    assert fits_of(replace(case, vectors=())) is not fits


def test_the_map_of_the_last_block_is_the_identity(case: Case) -> None:
    fitted = fits_of(case).fits[1].fitted
    torch.testing.assert_close(
        fitted.matrix.float(), torch.eye(32), atol=1e-3, rtol=0, check_dtype=False
    )


@pytest.mark.parametrize("name", MINE)
def test_an_analysis_of_a_case_is_a_table_a_figure_and_a_sentence(case: Case, name: str) -> None:
    only = replace(case, vectors=(case.vector, vector_at(1, task="others", seed=1)))
    found: Any = ANALYSES[name].run(only if name == "transfer" else case)
    assert isinstance(found, Result)
    assert len(found.to_frame())
    assert ANALYSES[name].figure(found).name == name
    assert ANALYSES[name].summarise(found.to_frame())
