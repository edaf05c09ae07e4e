"""What the learners that come with the package show: claims as tests, with their controls."""

from functools import cache

import pytest

from taskvectors.learners import Learner
from taskvectors.learners.measures import Measured, Prompted, locality, measure
from taskvectors.learners.model import TRAINED


@cache
def measured(name: str) -> tuple[Measured, Prompted]:
    found = measure(Learner.load(name), n_trials=256, seed=11)
    assert found.prompted is not None
    return found, found.prompted


@pytest.mark.parametrize("name", ["offset-vanilla", "offset-tvp-1"])
def test_both_learn_in_context(name: str) -> None:
    found, _ = measured(name)
    assert found.mean(found.icl) <= 0.02
    assert found.base_error > 0.8


def test_no_vector_emerged_without_the_loss() -> None:
    found, prompted = measured("offset-vanilla")
    assert all(value is not None and value < 0.1 for value in found.recovery(prompted.reset))


def test_the_loss_formed_a_vector_at_its_layer_and_nowhere_else() -> None:
    found, prompted = measured("offset-tvp-1")
    recovery = found.recovery(prompted.reset)
    assert recovery[1] is not None
    assert recovery[1] >= 0.9
    assert locality(recovery) == pytest.approx(1.0, abs=0.1)


def test_another_tasks_vector_makes_the_query_be_answered_by_that_task() -> None:
    _, prompted = measured("offset-tvp-1")
    other = prompted.is_other.bool()
    assert float(prompted.wrong[1, other].mean()) > 0.9
    assert float(prompted.wrong_to_injected[1].mean()) < 0.1


def test_the_vector_is_not_the_same_for_every_query_that_it_is_read_from() -> None:
    found = measure(Learner.load("offset-tvp-1"), n_trials=256, seed=11, n_dummies=16)
    assert found.prompted is not None
    assert found.mean(found.prompted.averaged[1]) > 0.5


def test_each_is_small_enough_to_come_with_the_package() -> None:
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in TRAINED.iterdir()]
    assert sizes
    assert max(sizes) < 2_000_000
