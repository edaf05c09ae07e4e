"""Several places patched at once: identities, one place as prompting has it, planted spread.

Run with `pytest tests/learners/test_patching.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from taskvectors.learners.family import EvalBatch
from taskvectors.learners.patching import (
    DEMONSTRATIONS,
    EVERYTHING,
    SEPARATORS,
    SITE,
    Recorded,
    columns_by_place,
    patched_rows,
)

CASES = [("offset", "xzy"), ("offset", "zxy"), ("linear", "xzyd")]


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def asked(
    request: Any, tiny_learner: Callable[..., Any], tiny_eval_batch: Callable[..., Any]
) -> tuple[Any, EvalBatch]:
    task, form = request.param
    learner = tiny_learner(task, format=form, n_demonstrations=3)
    return learner, tiny_eval_batch(learner.family, n=5)


def final(body: Any, inputs: torch.Tensor) -> torch.Tensor:
    state, arguments = body.enter(body.embed(inputs))
    return body.run(state, arguments, range(body.n_layers))


@torch.no_grad()
def test_all_demonstrations_below_block_0_are_the_task_itself(asked: Any) -> None:
    learner, trials = asked
    body, n = learner.body, trials.history.shape[1]
    recorded = Recorded.of(body, trials)
    places = columns_by_place(learner, trials)
    whole = final(body, torch.cat([trials.history, trials.queries], dim=1))
    other = final(body, torch.cat([trials.history.roll(1, 0), trials.queries], dim=1))
    patched = recorded.patched(body, places[DEMONSTRATIONS], [-1])
    torch.testing.assert_close(patched[:, n:], whole[:, n:])
    torch.testing.assert_close(recorded.patched(body, (), ()), other)
    # after the block that changes it last, every column is what was recorded
    last = recorded.patched(body, places[EVERYTHING], [body.n_layers - 1])
    torch.testing.assert_close(
        last[:, places[EVERYTHING]], recorded.states[-1][:, places[EVERYTHING]]
    )


@torch.no_grad()
def test_one_column_after_one_block_is_a_run_of_blocks_with_the_state_replaced(asked: Any) -> None:
    learner, trials = asked
    body, n = learner.body, trials.history.shape[1]
    recorded = Recorded.of(body, trials)
    column = n + trials.site_column
    assert columns_by_place(learner, trials)[SITE] == [column]
    source, arguments = body.enter(
        body.embed(torch.cat([trials.history, trials.dummies[:, 0]], dim=1))
    )
    vector = body.run(source, arguments, range(2))[:, column]
    state, arguments = body.enter(body.embed(recorded.inputs))
    state = body.run(state, arguments, range(2)).clone()
    state[:, column] = vector
    expected = body.run(state, arguments, range(2, body.n_layers))
    torch.testing.assert_close(recorded.patched(body, [column], [1]), expected)


def test_places_are_the_columns_that_their_names_say(
    tiny_learner: Callable[..., Any], tiny_eval_batch: Callable[..., Any]
) -> None:
    learner = tiny_learner("offset", format="zxy", n_demonstrations=2)
    found = columns_by_place(learner, tiny_eval_batch(learner.family))
    assert found == {
        "site": [6],
        "site and separators": [0, 3, 6],
        "site and outputs": [2, 5, 6],
        "demonstrations": [0, 1, 2, 3, 4, 5],
        "site and demonstrations": [0, 1, 2, 3, 4, 5, 6],
    }


def test_rows_have_each_place_after_each_block_and_after_all(asked: Any) -> None:
    learner, _ = asked
    rows = patched_rows(learner, n_trials=20, seed=0)
    assert [row["layer"] for row in rows if row["place"] == SEPARATORS] == [0, 1, None]
    assert len({row["other_error"] for row in rows}) == 1
    assert patched_rows(learner, n_trials=20, seed=0) == rows
    for row in rows:
        if row["recovery"] is not None:
            gain = row["other_error"] - row["icl_error"]
            assert row["recovery"] * gain == pytest.approx(
                row["other_error"] - row["patched_error"]
            )


def test_a_format_without_a_site_has_none(tiny_learner: Callable[..., Any]) -> None:
    assert patched_rows(tiny_learner("offset", format="xy"), n_trials=4, seed=0) == []
