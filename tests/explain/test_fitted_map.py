"""Maps fitted to noisy copies of a vector, where the map is known.

Run with `pytest tests/explain/test_fitted_map.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted
from torch import Tensor

from taskvectors.explain.shared.fitted_map import (
    FitSettings,
    FittedMap,
    fit_map,
    noise_span,
    noisy_copies,
)
from taskvectors.explain.shared.linear_map import relative_distance
from taskvectors.explain.shared.responses import Responses


def turn(angle: float, width: int = 8) -> Tensor:
    """A rotation by an angle in each plane of neighbouring coordinates."""
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    plane = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    return torch.block_diag(*[plane] * (width // 2))


SCALING = torch.diag(torch.linspace(0.5, 4.0, 8))


def fitted(model: Any, layer: int, vector: Tensor, **settings: Any) -> FittedMap:
    queries = {
        split: Responses.of(model, planted.prompts(3, seed=seed), 0)
        for seed, split in enumerate(("train", "validation", "test"))
    }
    return fit_map(queries, vector, layer, FitSettings(n_held_out=16, **settings))


def whole(map_: Tensor) -> Tensor:
    """A planted map on the first dimensions, the identity on the others."""
    return torch.block_diag(map_, torch.eye(planted.D_MODEL - len(map_)))


@pytest.fixture(scope="module")
def vector() -> Tensor:
    return planted.along(2, 4.0).values[0] + planted.along(5, -3.0).values[0]


@pytest.mark.parametrize(
    ("layer", "expected"), [(0, SCALING @ turn(0.9)), (1, SCALING), (3, torch.eye(8))]
)
def test_a_planted_map_is_found_at_each_layer(vector: Tensor, layer: int, expected: Tensor) -> None:
    model = planted.turned_then_scaled(turn(0.9), SCALING)
    found = fitted(model, layer, vector)
    assert found.rank == planted.D_MODEL
    assert found.n_samples == 4 * planted.D_MODEL
    assert relative_distance(found.matrix, whole(expected)) < 0.01


def test_a_low_rank_fit_says_its_rank_and_holds_in_its_span(vector: Tensor) -> None:
    model = planted.turned_then_scaled(turn(0.9), SCALING)
    found = fitted(model, 1, vector, most_directions=5)
    assert found.rank == 5
    assert found.n_samples == 20
    assert torch.linalg.matrix_rank(found.matrix, rtol=1e-6) == 5
    # the vector itself is in the span, so what W does to it is known
    expected = whole(SCALING) @ vector
    assert relative_distance(found.matrix @ vector.double(), expected) < 0.01


def test_noise_has_the_length_that_its_scale_says(vector: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    for rank in (3, planted.D_MODEL):
        span = noise_span(vector, rank, generator)
        torch.testing.assert_close(span @ span.T, torch.eye(rank))
        noise = noisy_copies(vector, span, 0.5, 4000, generator) - vector
        length = noise.square().sum(dim=1).mean().sqrt()
        assert float(length / vector.norm()) == pytest.approx(0.5, rel=0.03)
    unit = vector / vector.norm()
    assert abs(float(noise_span(vector, 3, generator)[0] @ unit)) == pytest.approx(1)


def test_noise_and_ridge_are_those_that_do_best_on_validation(
    vector: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = planted.turned_then_scaled(turn(0.9), SCALING)
    # a ridge of 10 shrinks every direction: the map is exact, so the smallest ridge is best
    found = fitted(model, 1, vector, ridges=(10.0, 1e-6, 1.0))
    assert found.ridge == 1e-6
