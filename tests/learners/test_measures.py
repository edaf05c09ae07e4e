"""Measures on planted values, and the analyses that need no training."""

from typing import Any

import pytest
import torch

from taskvectors.learners.measures import Measured, Prompted, locality
from taskvectors.learners.probes import linear_probe, task_share
from taskvectors.learners.robustness import trend_on_layer


def planted(icl: float, zero_shot: float, without: float, tvp: list[float]) -> Measured:
    """Trials that all have the same errors."""

    def constant(value: float) -> torch.Tensor:
        return torch.full((50, 1), value)

    layers = torch.stack([constant(value) for value in tvp])
    prompted = Prompted(
        reset=layers,
        kept=layers,
        averaged=layers,
        wrong=layers,
        wrong_to_injected=layers,
        is_other=torch.ones(50),
    )
    return Measured(
        n_demonstrations=3,
        shift="none",
        weights=torch.ones(50, 1),
        icl=constant(icl),
        zero_shot=constant(zero_shot),
        baselines={"without": constant(without), "optimal": constant(0.0)},
        prompted=prompted,
        states=None,
        probe_targets=torch.zeros(50, 1),
    )


def recovery(found: Measured) -> list[float | None]:
    assert found.prompted is not None
    return found.recovery(found.prompted.reset)


def test_recovery_is_the_share_of_the_gain_of_demonstrations() -> None:
    found = planted(icl=0.2, zero_shot=1.5, without=1.0, tvp=[1.0, 0.2, 0.6, 2.0])
    assert found.base_error == pytest.approx(1.0)
    assert recovery(found) == pytest.approx([0.0, 1.0, 0.5, -1.25])


def test_the_base_is_zero_shot_where_that_is_lower() -> None:
    assert planted(0.2, 0.8, 1.0, [0.2]).base_error == pytest.approx(0.8)


def test_recovery_has_no_meaning_where_demonstrations_gain_nothing() -> None:
    assert recovery(planted(icl=0.95, zero_shot=1.0, without=1.0, tvp=[0.5])) == [None]
    assert recovery(planted(icl=0.0, zero_shot=0.0, without=0.0, tvp=[0.0])) == [None]


def test_the_interval_of_a_recovery_holds_it_and_narrows_to_it() -> None:
    found = planted(icl=0.2, zero_shot=1.0, without=1.0, tvp=[0.6])
    assert found.prompted is not None
    assert found.recovery_interval(found.prompted.reset[0]) == pytest.approx((0.5, 0.5), abs=1e-4)
    noisy = found.prompted.reset[0] + torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    low, high = found.recovery_interval(noisy)
    (mean,) = found.recovery(noisy.unsqueeze(0))
    assert mean is not None
    assert low < mean < high


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 1.0, 0.0], 1.0), ([0.5, 0.5], 0.5), ([0.05, -2.0], None), ([None, None], None)],
)
def test_locality_is_the_best_layers_share(
    values: list[float | None], expected: float | None
) -> None:
    assert locality(values) == expected


def test_padding_counts_for_nothing() -> None:
    found = planted(0.2, 1.0, 1.0, [0.5])
    weights = torch.ones(50, 1)
    weights[:25] = 0
    errors = found.icl.clone()
    errors[:25] = 100
    object.__setattr__(found, "weights", weights)
    assert found.mean(errors) == pytest.approx(0.2)


# --- probes: planted truth, and controls


def test_a_task_that_is_written_linearly_is_found_and_another_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = torch.randn(400, 2, generator=generator)
    noise = torch.randn(400, 8, generator=generator)
    written = torch.cat([tasks @ torch.tensor([[1.0, 2.0], [0.5, -1.0]]), noise], dim=1) + 5
    assert linear_probe(written, tasks) > 0.98
    assert linear_probe(noise, tasks) < 0.1


def test_the_share_of_tasks_in_the_variance_is_the_planted_one() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = torch.randn(2000, 1, 3, generator=generator)
    queries = torch.randn(2000, 4, 3, generator=generator)
    assert task_share(tasks + 0 * queries) == pytest.approx(1.0)
    assert task_share(tasks * 3**0.5 + queries) == pytest.approx(0.75, abs=0.02)
    assert task_share(queries) < 0.02


# --- trend


def test_a_trend_is_found_where_there_is_one() -> None:
    falling = [[5.0, 4.0, 3.0, 2.0, 1.0]] * 3
    found = trend_on_layer(falling)
    assert found is not None
    assert found.correlation == -1
    assert found.p_value < 0.01


@pytest.mark.parametrize(("n_seeds", "smallest"), [(1, 2 / 6), (2, 2 / 36), (3, 2 / 216)])
def test_the_smallest_p_of_a_trend_is_that_of_a_perfect_one(n_seeds: int, smallest: float) -> None:
    found = trend_on_layer([[3.0, 2.0, 1.0]] * n_seeds)
    assert found is not None
    assert found.p_value == pytest.approx(smallest)
    assert found.smallest_p_value == pytest.approx(smallest)


def test_no_trend_is_found_in_noise() -> None:
    p_values = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        found = trend_on_layer(torch.rand(3, 4, generator=generator).tolist(), n_draws=300)
        assert found is not None
        p_values.append(found.p_value)
    assert sum(p < 0.1 for p in p_values) <= 10


@pytest.mark.parametrize("errors", [[], [[1.0, 2.0]]])
def test_two_layers_are_no_trend(errors: list[Any]) -> None:
    assert trend_on_layer(errors) is None


def test_equal_errors_have_no_trend() -> None:
    found = trend_on_layer([[1.0, 1.0, 1.0]])
    assert found is not None
    assert found.correlation == 0
    assert found.p_value == 1
