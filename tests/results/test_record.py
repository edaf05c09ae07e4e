"""Rows of results: common columns, words, and rows that stand for all tasks.

Run with `pytest tests/results/test_record.py`.
"""

import math
from typing import Any

import pandas as pd
import pytest

from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.experiment import GroupResult, RunUnit
from taskvectors.results import COLUMNS, OVER_TASKS, Measurement, frame_of
from taskvectors.results.pooling import over_tasks

GROUP = RunUnit(
    experiment="ltv-ov",
    model=ModelConfig(source="some/model"),
    tasks=("capital",),
    seed=3,
)


def rows(*found: tuple[str, int, str, dict[str, Any]]) -> pd.DataFrame:
    """Accuracies of tasks and seeds, with which prompts were answered rightly."""
    return frame_of(
        [
            Measurement(
                measure="accuracy",
                value=marks.count("1") / len(marks),
                n=len(marks),
                method="learned",
                about={"correct": marks} | about,
            ).as_row(experiment="e", model="some/model", task=task, seed=seed)
            for task, seed, marks, about in found
        ]
    )


def test_a_row_has_the_common_columns_and_its_own() -> None:
    one = Measurement(
        measure="mass",
        value=0.5,
        n=4,
        method="learned",
        layers=(3, "embed"),
        about={"heads": "key", "strength": 1.0, "absent": None},
    )
    (row,) = GroupResult(measurements=[one]).cell(GROUP).rows
    assert set(COLUMNS) < set(row)
    assert row["model"] == "some/model"
    assert row["layers"] == '[3, "embed"]'
    assert row["configuration"] == "heads key"  # a strength has a column, and is not repeated
    assert row["group"] == "model-capital-seed3"
    frame = frame_of([row])
    assert list(frame.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert str(frame["seed"].dtype) == "Int64"


def test_a_number_that_is_none_is_absent() -> None:
    for value in (math.nan, math.inf, None):
        assert Measurement(measure="d", value=value).as_row()["value"] is None


def test_a_learner_stands_in_the_models_column() -> None:
    group = RunUnit(experiment="e", model=None, tasks=("offset",), seed=0, part="6 layers")
    one = Measurement(measure="d", value=0.0, about={"learner": "gpt2 6x64"})
    (row,) = GroupResult(measurements=[one]).cell(group).rows
    assert row["model"] == "gpt2 6x64"
    assert row["group"] == "learner-offset-6-layers-seed0"
    assert row["configuration"] == ""


def test_the_mean_over_tasks_is_that_of_all_tasks_and_seeds() -> None:
    marks = (("a", 0, "11"), ("a", 1, "10"), ("b", 0, "00"), ("b", 1, "10"))
    frame = rows(*((*one, {"variant": "paper", "strength": one[1]}) for one in marks))
    (mean,) = over_tasks(frame)
    assert mean["variant"] == "paper"
    assert "strength" not in mean  # seeds differ in it
    assert mean["task"] == OVER_TASKS
    assert mean["value"] == pytest.approx(0.5)
    assert mean["n"] == 8
    assert mean["low"] < 0.5 < mean["high"]


def test_there_is_no_mean_where_a_task_has_no_such_row_or_it_was_not_selected() -> None:
    frame = rows(("a", 0, "11", {"selected": True}), ("b", 0, "10", {"selected": False}))
    (mean,) = over_tasks(frame)
    assert mean["value"] == 1.0  # of the one task that chose it
    frame = rows(("a", 0, "11", {"preset": "x"}), ("b", 0, "10", {"preset": "y"}))
    frame["configuration"] = frame["preset"]
    assert over_tasks(frame) == []
    assert over_tasks(frame_of([])) == []


def test_tokens_have_no_mean() -> None:
    frame = rows(("a", 0, "11", {"text": "Oslo"}), ("b", 0, "10", {"text": "Oslo"}))
    assert over_tasks(frame) == []
    assert len(over_tasks(frame.assign(text=None))) == 1
