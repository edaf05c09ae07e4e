"""Ridge fits, R² and polar decompositions against formulas written out.

Run with `pytest tests/explain/test_linear_map.py`.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from taskvectors.explain.shared.linear_map import (
    RidgeFits,
    matrix_cosine,
    off_direction,
    polar,
    r_squared,
    relative_distance,
    slope_r_squared,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation_of(width: int, seed: int = 1) -> Tensor:
    found = torch.linalg.qr(normal(width, width, seed=seed)).Q
    return (
        found
        if float(torch.linalg.det(found)) > 0
        else found * torch.tensor([-1.0] + [1.0] * (width - 1), dtype=torch.float64)
    )


# --- ridge


def test_without_noise_or_ridge_the_map_itself_is_found() -> None:
    matrix, inputs = normal(5, 7), normal(40, 7, seed=1)
    fits = RidgeFits.of(inputs, inputs @ matrix.T)
    assert fits.rank == 7
    torch.testing.assert_close(fits.at(0.0), matrix)


@pytest.mark.parametrize("ridge", [0.0, 0.01, 3.0])
def test_a_ridge_fit_is_that_of_the_normal_equations(ridge: float) -> None:
    inputs, outputs = normal(20, 6), normal(20, 4, seed=1)
    x, y = inputs.numpy(), outputs.numpy()
    gram = x.T @ x
    expected = np.linalg.solve(gram + ridge * np.trace(gram) / 6 * np.eye(6), x.T @ y).T
    found = RidgeFits.of(inputs, outputs).at(ridge)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_fewer_samples_than_dimensions_give_a_low_rank_that_is_said() -> None:
    matrix, inputs = normal(9, 9), normal(4, 9, seed=1)
    fits = RidgeFits.of(inputs, inputs @ matrix.T)
    assert fits.rank == 4
    found = fits.at(0.0)
    torch.testing.assert_close(found @ inputs.T, matrix @ inputs.T)
    unseen = normal(9, seed=2)
    span = torch.linalg.qr(inputs.T).Q
    unseen -= span @ (span.T @ unseen)
    assert float((found @ unseen).norm()) < 1e-9  # nothing is claimed about what was not sampled


def test_there_is_no_intercept() -> None:
    inputs = normal(50, 3)
    fits = RidgeFits.of(inputs, torch.ones(50, 1, dtype=torch.float64) * 5)
    expected = np.linalg.lstsq(inputs.numpy(), np.full((50, 1), 5.0), rcond=None)[0].T
    np.testing.assert_allclose(fits.at(0.0).numpy(), expected, atol=1e-10)


# --- R²


def test_r_squared_is_centred_over_samples() -> None:
    observed = normal(30, 4) + 100  # nearly all of every sample is what all have in common
    constant = observed.mean(dim=0).expand_as(observed)
    assert r_squared(constant, observed) == pytest.approx(0, abs=1e-12)
    assert r_squared(constant + 1, observed) < 0
    half = constant + (observed - constant) / 2
    assert r_squared(half, observed) == pytest.approx(0.75)


def test_r_squared_is_that_of_a_loop() -> None:
    predicted, observed = normal(5, 3), normal(5, 3, seed=1)
    lost = total = 0.0
    for j in range(3):
        mean = sum(float(observed[i, j]) for i in range(5)) / 5
        lost += sum(float(observed[i, j] - predicted[i, j]) ** 2 for i in range(5))
        total += sum((float(observed[i, j]) - mean) ** 2 for i in range(5))
    assert r_squared(predicted, observed) == pytest.approx(1 - lost / total)


def test_a_constant_is_granted_where_only_slopes_are_compared() -> None:
    observed, shift = normal(30, 4), normal(1, 4, seed=1) * 50
    half = observed / 2
    assert slope_r_squared(observed + shift, observed) == pytest.approx(1)
    assert slope_r_squared(half + shift, observed) == pytest.approx(0.75)
    assert r_squared(half + shift, observed) < 0


# --- polar


def test_a_rotation_after_a_stretching_is_taken_apart_again() -> None:
    rotation = rotation_of(6)
    basis = rotation_of(6, seed=2)
    stretching = basis @ torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64)) @ basis.T
    found = polar(rotation @ stretching)
    torch.testing.assert_close(found.rotation, rotation)
    torch.testing.assert_close(found.stretching, stretching)
    assert found.rank == 6
    assert found.determinant_sign == 1
    assert found.energy == pytest.approx(1)
    vectors = normal(3, 6, seed=3)
    for i, x in enumerate(vectors):
        turned = rotation @ x
        assert float(found.turn_cosine(vectors)[i]) == pytest.approx(
            float(x @ turned / (x.norm() * turned.norm()))
        )
        assert float(found.stretch(vectors)[i]) == pytest.approx(
            float(x @ stretching @ x / (x @ x))
        )
    torch.testing.assert_close(found.kept_share(vectors), torch.ones(3, dtype=torch.float64))


def test_a_reflection_has_a_negative_determinant() -> None:
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    assert polar(rotation_of(3) @ mirror).determinant_sign == -1


def test_a_pure_stretching_does_not_turn() -> None:
    found = polar(torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)))
    assert found.distance_from_identity == pytest.approx(0, abs=1e-7)
    assert float(found.turn_cosine(normal(3))) == pytest.approx(1)


def test_quarter_turns_of_every_plane_are_at_distance_one() -> None:
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    stretched = quarter @ torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert polar(stretched).distance_from_identity == pytest.approx(1)


def test_a_low_rank_map_gets_a_partial_isometry_and_no_completion() -> None:
    left, right = rotation_of(7)[:, :3], rotation_of(7, seed=2)[:, :3]
    found = polar(left @ torch.diag(torch.tensor([5.0, 2.0, 1.0]).double()) @ right.T)
    assert found.rank == 3
    assert found.determinant_sign is None
    torch.testing.assert_close(found.rotation, left @ right.T)
    inside, outside = right[:, 0], rotation_of(7, seed=2)[:, 5]
    assert float(found.kept_share(inside)) == pytest.approx(1)
    assert float(found.kept_share(outside)) == pytest.approx(0, abs=1e-12)
    assert float((found.rotation @ outside).norm()) < 1e-12


def test_the_energy_decides_how_many_directions_are_kept() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.1]).double())
    assert polar(matrix, energy=0.5).rank == 1
    assert polar(matrix, energy=0.99).rank == 2
    assert polar(matrix, energy=0.99).energy == pytest.approx(10 / 10.01)
    assert polar(matrix).rank == 3
    with pytest.raises(ValueError, match="zero"):
        polar(torch.zeros(3, 3))


# --- comparisons


def test_off_a_direction_a_map_does_nothing_along_it_and_the_same_elsewhere() -> None:
    matrix, vector = normal(4, 6), normal(6, seed=1)
    found = off_direction(matrix, vector)
    assert float((found @ vector).norm()) < 1e-12
    other = normal(6, seed=2)
    other -= vector * (other @ vector) / (vector @ vector)
    torch.testing.assert_close(found @ other, matrix @ other)


@pytest.mark.parametrize("compare", [matrix_cosine, relative_distance])
def test_comparisons_of_maps_are_those_of_numpy(compare: Any) -> None:
    a, b = normal(3, 4), normal(3, 4, seed=1)
    x, y = a.numpy().ravel(), b.numpy().ravel()
    expected = {
        matrix_cosine: x @ y / math.sqrt((x @ x) * (y @ y)),
        relative_distance: np.linalg.norm(x - y) / np.linalg.norm(y),
    }[compare]
    assert compare(a, b) == pytest.approx(expected)
