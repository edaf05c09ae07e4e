"""An experiment that this file defines is listed, estimated, run and reported, by its name alone.

Run with `pytest tests/cli/test_own_experiment.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from entry_points import installed

from taskvectors.costs import Cost
from taskvectors.errors import TaskVectorsError
from taskvectors.experiments import Experiment, GroupResult, Preset, RunUnit, WorkDir, register
from taskvectors.experiments.estimates import Estimator
from taskvectors.experiments.experiment import EXPERIMENTS, one_task_each
from taskvectors.results import Measurement

Tv = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("without_bars", "no_device_is_measured")


def count(unit: RunUnit, preset: Preset, work_dir: WorkDir) -> GroupResult:
    """The letters of a task's name."""
    letters = Measurement(measure="letters", value=float(len(unit.task)), method="counting")
    return GroupResult(measurements=[letters])


def seconds(unit: RunUnit, preset: Preset, estimator: Estimator) -> Sequence[Cost]:
    """A second each."""
    return [
        Cost(
            name=unit.key, forward_tokens=len(unit.task), flops=1.0, trunk_bytes=0, peak_bytes=0,
            seconds=1.0,
        )
    ]  # fmt: skip


SMALL = Preset(tasks=("red", "violet"))
ROW = Experiment(
    name="own-letters",
    title="Letters of a name",
    question="How many letters has a task's name?",
    paper="Nobody: On Letters. 2026",
    what_the_paper_did="Counted them.",
    what_we_do_otherwise="Nothing.",
    presets={"smoke": SMALL, "cpu": SMALL, "paper": SMALL},
    run=count,
    estimate=seconds,
    units=one_task_each,
    shown=("letters",),
)


@pytest.fixture
def registered() -> Iterator[None]:
    register(ROW)
    yield
    EXPERIMENTS.unregister("own-letters")


def test_it_is_listed_estimated_run_and_reported(tv: Tv, registered: None, tmp_path: Path) -> None:
    listed = {row["name"]: row for row in tv("reproduce", "--list", "--json").json["rows"]}
    assert listed["own-letters"]["question"] == ROW.question
    assert listed["own-letters"]["presets"]["cpu"]["groups"] == 2
    cost = tv("estimate", "reproduce", "own-letters", "--device", "h100", "--json")
    assert cost.code == 0, cost.err
    assert [row["forward_tokens"] for row in cost.json["rows"]] == [3, 6, 9]
    run = tv("reproduce", "own-letters", "--out", tmp_path / "run", "--json")
    assert run.code == 0, run.err
    values = {row["task"]: row["value"] for row in run.json["rows"]}
    assert {"red": 3.0, "violet": 6.0}.items() <= values.items()
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (ROW.title, ROW.question.replace("'", "&#39;"), ROW.paper, "violet"):
        assert text in page


def test_it_comes_in_through_an_entry_point_in_the_order_of_names() -> None:
    with installed(EXPERIMENTS, ROW):
        assert list(EXPERIMENTS) == sorted(EXPERIMENTS)
        assert {"own-letters", "tvp-loss", "ltv-ov"} <= set(EXPERIMENTS)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(TaskVectorsError, match="experiment 'tvp-loss' already"):
        register(Experiment(**{**vars(ROW), "name": "tvp-loss"}))
