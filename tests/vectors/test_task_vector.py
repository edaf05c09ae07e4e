"""The vector as a value: its algebra, its edits, and the models it belongs to.

Run with `pytest tests/vectors/test_task_vector.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvectors.errors import TaskVectorsError, VectorMismatchError
from taskvectors.vectors import Site, TaskVector, VectorOrigin, sites_at

Made = Callable[..., Any]
Table = dict[Site, list[float]]

PLACES = sites_at([-1, 0, 3], [-1, "query_last", 4])
WIDTH = 4
EXACT = st.integers(-64, 64).map(lambda n: n / 8)
"""Numbers whose sums and products are exact in float32."""


ROWS = st.lists(EXACT, min_size=WIDTH, max_size=WIDTH)
TABLES = st.dictionaries(st.sampled_from(PLACES), ROWS, min_size=1, max_size=4)
"""Vectors as tables; made into vectors inside the tests, since type checks draw random samples."""


def made(table: Table) -> TaskVector:
    return TaskVector(values=torch.tensor(list(table.values())), sites=tuple(table))


def table(vector: TaskVector) -> Table:
    return {site: value.tolist() for site, value in zip(vector.sites, vector.values, strict=True)}


def vector_at(*sites: Site, width: int = WIDTH, **about: Any) -> TaskVector:
    values = torch.arange(1.0, len(sites) * width + 1).view(len(sites), width)
    return TaskVector(values=values, sites=sites, **about)


# --- algebra


@given(TABLES, TABLES, TABLES)
def test_adding_commutes_and_associates(one: Table, other: Table, third: Table) -> None:
    a, b, c = made(one), made(other), made(third)
    assert table(a + b) == table(b + a)
    assert table((a + b) + c) == table(a + (b + c))


@given(TABLES, TABLES)
def test_a_sum_has_the_sites_of_both(one: Table, other: Table) -> None:
    zeros = [0.0] * WIDTH
    assert table(made(one) + made(other)) == {
        site: [x + y for x, y in zip(one.get(site, zeros), other.get(site, zeros), strict=True)]
        for site in one.keys() | other.keys()
    }


@given(TABLES, TABLES, EXACT)
def test_multiplying_distributes(one: Table, other: Table, scale: float) -> None:
    a, b = made(one), made(other)
    assert table(scale * (a + b)) == table(scale * a + b * scale)
    assert table(a - b) == table(a + -b)
    assert table(2 * a) == table(a + a)
    assert table(a - a) == {site: [0.0] * WIDTH for site in a.sites}


@given(TABLES, EXACT)
def test_norm_scales_with_the_vector(one: Table, scale: float) -> None:
    a = made(one)
    assert (scale * a).norm() == pytest.approx(abs(scale) * a.norm())
    assert a.norm() ** 2 == pytest.approx(sum(x * x for row in one.values() for x in row))


@given(st.lists(ROWS.filter(any), min_size=2, max_size=2), st.lists(ROWS.filter(any), min_size=2))
def test_cosine_is_that_of_the_angle(one: list[list[float]], other: list[list[float]]) -> None:
    a = made(dict(zip(PLACES[:2], one, strict=True)))
    b = made(dict(zip(PLACES[1::-1], other[:2], strict=True)))  # the same sites in another order
    assert a.cosine(3 * a) == pytest.approx(1)
    assert a.cosine(-a) == pytest.approx(-1)
    inner = ((a + b).norm() ** 2 - (a - b).norm() ** 2) / 4
    assert a.cosine(b) == pytest.approx(inner / (a.norm() * b.norm()), abs=1e-9)


def test_cosine_needs_equal_sites_and_a_direction() -> None:
    one, other = vector_at(Site(0, -1)), vector_at(Site(1, -1))
    with pytest.raises(VectorMismatchError, match=r"same sites.*layer 0.*layer 1"):
        one.cosine(other)
    with pytest.raises(TaskVectorsError, match="zeros has no direction"):
        one.cosine(0 * one)


def test_one_place_under_two_names_is_one_site() -> None:
    post, pre = vector_at(Site(1, -1)), vector_at(Site(2, "last", "resid_pre"))
    assert len((post + pre).sites) == 1
    assert torch.equal((post + pre).values, 2 * post.values)
    with pytest.raises(ValueError, match="named twice"):
        vector_at(Site(1, -1), Site(2, "last", "resid_pre"))


def test_vectors_that_do_not_go_together_are_not_added() -> None:
    one = vector_at(Site(1, -1))
    with pytest.raises(VectorMismatchError, match=r"width \(4 against 5\)"):
        one + vector_at(Site(1, -1), width=5)
    with pytest.raises(VectorMismatchError, match=r"operation \(add against replace\)"):
        one - vector_at(Site(1, -1), operation="replace")
    llama, gpt2 = VectorOrigin(family="llama"), VectorOrigin(family="gpt2")
    with pytest.raises(VectorMismatchError, match=r"family \(llama against gpt2\)"):
        replace(one, origin=llama) + replace(one, origin=gpt2)
    with pytest.raises(TypeError):
        one * one


def test_arithmetic_keeps_account_of_where_a_vector_comes_from() -> None:
    about = {"family": "llama", "method": "learned", "seed": 3, "scores": {"accuracy": 0.5}}
    capital = vector_at(Site(1, -1), origin=VectorOrigin(task="capital", **about))
    antonym = vector_at(Site(1, -1), origin=VectorOrigin(task="antonym", **about | {"seed": 4}))
    origin = (capital + 0.5 * antonym).origin
    assert (origin.method, origin.task, origin.family) == ("learned", "capital + antonym", "llama")
    assert (origin.seed, origin.scores) == (None, {})
    assert origin.notes == ("0.5 times the learned vector of antonym",)
    assert capital.origin.scores == {"accuracy": 0.5}


def test_the_random_control_has_the_norm_of_each_site() -> None:
    vector = vector_at(*sites_at([0, 1], [-1, 0]), width=64)
    control = vector.random_like(torch.Generator().manual_seed(0))
    again = vector.random_like(torch.Generator().manual_seed(0))
    assert torch.allclose(control.values.norm(dim=1), vector.values.norm(dim=1))
    assert abs(control.cosine(vector)) < 0.3
    assert torch.equal(control.values, again.values)
    assert control.sites == vector.sites
    assert control.origin.method == "random"


def test_to_gives_a_copy_in_another_type() -> None:
    vector = vector_at(Site(0, -1))
    half = vector.to("cpu", torch.bfloat16)
    assert half.values.dtype == torch.bfloat16
    assert vector.values.dtype == torch.float32
    assert (vector + half).values.dtype == torch.float32


def test_sites_are_described_by_layers_and_positions() -> None:
    vector = vector_at(*sites_at([3, -1], ["query", -1]))
    assert vector.layers == (3, -1)
    assert vector.positions == ("query", -1)
    assert vector.d_model == WIDTH
    assert str(vector.sites[2]) == "resid_post of embed at position query"


# --- what is no vector


@pytest.mark.parametrize(
    ("values", "sites", "message"),
    [
        (torch.ones(2, 3), sites_at([0], [-1]), "1 sites were given for 2 values"),
        (torch.ones(0, 3), (), "0 sites"),
        (torch.ones(1, 3).double(), sites_at([0], [-1]), "are float32"),
        (torch.ones(1, 3, requires_grad=True), sites_at([0], [-1]), "need no gradient"),
    ],
)
def test_values_and_sites_have_to_fit(
    values: torch.Tensor, sites: tuple[Site, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TaskVector(values=values, sites=sites)


def test_values_have_to_be_finite() -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(
            TaskVectorsError, match=r"learned vector.*not all finite.*learning rate"
        ):
            TaskVector(
                values=torch.tensor([[1.0, bad]]),
                sites=sites_at([0], [-1]),
                origin=VectorOrigin(method="learned"),
            )


def test_sites_that_no_model_has_are_refused() -> None:
    for layer, component in ((-2, "resid_post"), (-1, "z")):
        with pytest.raises(ValueError, match="there is no site"):
            Site(layer, -1, component)
    with pytest.raises(ValueError, match="there is no site"):
        Site(0, "")


# --- edits


def test_edits_group_positions_by_layer_and_component() -> None:
    places = [
        (1, -1),
        (0, 4),
        (1, 4),
        (1, "query"),
        (1, -1, "z"),
        (1, "last", "mlp_out"),
        (1, 0, "z"),
    ]
    vector = vector_at(*(Site(*place) for place in places))
    found = [(e.layer, e.component, e.positions, e.operation) for e in vector.edits(2.0)]
    assert found == [
        (1, "resid_post", (-1, 4), "add"),
        (0, "resid_post", (4,), "add"),
        (1, "resid_post", ("query",), "add"),
        (1, "z", (-1, 0), "add"),
        (1, "mlp_out", ("last",), "add"),
    ]
    assert torch.equal(vector.edits(2.0)[0].value, 2 * vector.values[[0, 2]])
    assert torch.equal(vector.edits()[1].value, vector.values[1:2])


def test_a_replacing_vector_has_edits_of_strength_one_only() -> None:
    vector = vector_at(Site(1, -1), operation="replace")
    assert vector.edits()[0].operation == "replace"
    with pytest.raises(TaskVectorsError, match=r"strength 0\.5 has no meaning"):
        vector.edits(0.5)


@pytest.mark.parametrize("strength", [float("inf"), -float("inf"), float("nan"), 1e39])
@pytest.mark.parametrize("operation", ["add", "rotate", "replace"])
def test_a_strength_that_makes_no_number_is_refused(strength: float, operation: str) -> None:
    vector = vector_at(Site(1, -1), operation=operation)
    with pytest.raises(TaskVectorsError, match="is not finite"):
        vector.edits(strength)
