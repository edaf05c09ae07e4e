"""Analyses at every layer that a case has a vector at: the rows of each, a curve and a sentence.

Run with `pytest tests/explain/test_by_layer.py`.
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES, Case
from taskvectors.explain.shared.analysis import VECTOR_LAYER
from taskvectors.results.figures import Heatmap
from taskvectors.vectors import Site, TaskVector, VectorOrigin

SLOW = ("ov-reconstruction", "head-ablation")  # they score many branches
LAYERED = [
    pytest.param(name, marks=pytest.mark.slow(small_models=True)) if name in SLOW else name
    for name, analysis in ANALYSES.items()
    if analysis.over_layers is not None
]


def vector_at(layer: int, task: str = "words") -> TaskVector:
    generator = torch.Generator().manual_seed(layer)
    return TaskVector(
        values=torch.randn(1, 32, generator=generator),
        sites=(Site(layer=layer, position=-1),),
        origin=VectorOrigin(task=task, method="learned"),
    )


@pytest.fixture(scope="module")
def case(tiny_model: Any, small_bench: Any) -> Case:
    words = ("cold", "rouge", "maison", "small", "yes")
    pairs = [(f"{'ab'[n % 2]}{n}", words[n % 5]) for n in range(15)]
    vector = vector_at(1)
    return Case(
        context=small_bench(tiny_model("llama"), "words", pairs),
        vector=vector,
        vectors=(vector, vector_at(0), vector_at(2), vector_at(0, task="others")),
        limit=4,
    )


@pytest.mark.parametrize("name", LAYERED)
def test_rows_are_those_of_each_vector_alone_and_are_drawn(case: Case, name: str) -> None:
    found: Any = ANALYSES[name].run(case)
    rows = found.to_frame()
    assert list(rows[VECTOR_LAYER].unique()) == [1, 0, 2]  # the explained one first
    for vector in case.vectors[:3]:
        alone = replace(case, vector=vector, vectors=(vector,), _memo={})
        expected = ANALYSES[name].run(alone).to_frame()
        mine = rows[rows[VECTOR_LAYER] == vector.layers[0]].drop(columns=VECTOR_LAYER)
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), expected, check_dtype=False)
    figure = ANALYSES[name].figure(found)
    assert figure.name == name
    assert figure.caption.startswith(ANALYSES[name].caption)
    if isinstance(figure, Heatmap):
        assert figure.rows == ("0", "1", "2")
        if name == "key-heads":
            assert [sum(value or 0 for value in row) for row in figure.values] == pytest.approx(
                [1, 1, 1]
            )
        return
    for line in figure.series:
        assert line.x == (0, 1, 2), line.label
        for values in filter(None, (line.low, line.high)):
            assert len(values) == 3


def test_a_curve_shows_the_numbers_of_its_rows(case: Case) -> None:
    found: Any = ANALYSES["path-expansion"].run(case)
    rows, figure = found.to_frame(), found.figure()
    for layer in (0, 1, 2):
        own = rows[rows[VECTOR_LAYER] == layer]
        patterns = own[own["source"] == "patterns"]["effect"].sum()
        shown = {line.label: line.y[layer] for line in figure.series}
        assert shown["changed attention patterns"] == pytest.approx(patterns)
        # the lines hold every term but that of the final norm
        final_norm = own[own["source"] == "final norm"]["effect"].sum()
        assert sum(shown.values()) + final_norm == pytest.approx(own["whole"].iloc[0], abs=1e-3)


@pytest.mark.parametrize("name", LAYERED)
def test_the_summary_is_that_of_the_explained_vector(case: Case, name: str) -> None:
    rows = ANALYSES[name].run(case).to_frame()
    alone = ANALYSES[name].run(replace(case, vectors=(case.vector,))).to_frame()
    said = ANALYSES[name].summarise(rows)
    assert said
    assert said == ANALYSES[name].summarise(alone)


def test_a_vector_of_the_last_layer_among_them_is_an_error(case: Case) -> None:
    with_last = replace(case, vectors=(*case.vectors, vector_at(3)), _memo={})
    with pytest.raises(TaskVectorsError, match="no block lies above layer 3"):
        ANALYSES["frozen-paths"].run(with_last)


def test_a_vector_of_several_layers_is_explained_alone(case: Case) -> None:
    both = TaskVector(
        values=torch.cat([vector_at(0).values, vector_at(1).values]),
        sites=(Site(layer=0, position=-1), Site(layer=1, position=-1)),
        origin=VectorOrigin(task="words", method="learned"),
    )
    rows = ANALYSES["frozen-paths"].run(replace(case, vector=both, _memo={})).to_frame()
    assert VECTOR_LAYER not in rows
