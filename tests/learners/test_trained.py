"""What the learners that come with the package show: claims as tests, with their controls."""

from functools import cache

import pytest
import torch

from taskvectors.learners import CurriculumStage, Learner
from taskvectors.learners.family import generator_for
from taskvectors.learners.measures import Measured, Prompted, locality, measure
from taskvectors.learners.model import TRAINED
from taskvectors.learners.passes import both_losses, mean_loss


@cache
def measured(name: str) -> tuple[Measured, Prompted]:
    found = measure(Learner.load(name), n_trials=256, seed=11)
    assert found.prompted is not None
    return found, found.prompted


@pytest.mark.parametrize("name", ["offset-vanilla", "offset-tvp-1", "linear-vanilla"])
def test_all_learn_in_context(name: str) -> None:
    found, _ = measured(name)
    assert found.mean(found.icl) <= Learner.load(name).family.near_optimal
    assert found.base_error > 0.8


@pytest.mark.parametrize("name", ["offset-vanilla", "linear-vanilla"])
def test_no_vector_emerged_without_the_loss(name: str) -> None:
    found, prompted = measured(name)
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


@pytest.mark.slow(small_models=True)
def test_the_vector_is_not_the_same_for_every_query_that_it_is_read_from() -> None:
    found = measure(Learner.load("offset-tvp-1"), n_trials=256, seed=11, n_dummies=16)
    assert found.prompted is not None
    assert found.mean(found.prompted.averaged[1]) > 0.5


@pytest.mark.slow(small_models=True)
def test_trained_on_the_tvp_loss_alone_at_the_last_layer_the_error_tends_to_e_base() -> None:
    learner = Learner.load("linear-vanilla")
    before, prompted = measured("linear-vanilla")
    last = learner.body.n_layers - 1
    at_first = before.mean(prompted.reset[last])
    assert at_first > 1.7 * before.base_error  # it answers the dummy query: about twice the base
    optimizer = torch.optim.AdamW(learner.hf.train().parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(100):
        generator = generator_for("cpu", 7, step)
        tasks = learner.family.draw_tasks(16, generator)
        batch = learner.family.batch(tasks, generator, CurriculumStage())
        _, terms = both_losses(learner.body, learner.family, batch, (last,))
        optimizer.zero_grad()
        mean_loss(terms, batch.query_weights).backward()
        optimizer.step()
    after = measure(learner, n_trials=256, seed=11)
    assert after.prompted is not None
    assert after.mean(after.prompted.reset[last]) == pytest.approx(before.base_error, abs=0.05)


def test_each_is_small_enough_to_come_with_the_package() -> None:
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in TRAINED.iterdir()]
    assert sizes
    assert max(sizes) < 2_000_000
