"""A family of tasks that this file defines is trained on, estimated and cited, by its name alone.

Run with `pytest tests/cli/test_own_family.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entry_points import installed

from taskvectors.cli import main
from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import (
    FAMILIES,
    Family,
    Learner,
    LearnerShape,
    TrainingConfig,
    VariantsConfig,
    preset_of,
    register,
)
from taskvectors.learners.tasks.offset import TokenOffset
from taskvectors.methods import Paper


class Shift(TokenOffset):
    """Offsets of seven symbols."""

    kind: str = "shift"
    n_symbols: int = 7
    n_demonstrations: int = 3


PRESET = VariantsConfig(
    task="shift",
    training=TrainingConfig(
        shape=LearnerShape(n_layers=3, d_model=8, n_heads=1),
        steps=4,
        tvp_from=2,
        batch_size=2,
        measure_every=2,
        n_curve_trials=4,
    ),
    n_trials=8,
)
ROW = Family(
    config=Shift,
    summary="seven symbols in a circle",
    papers=(Paper("Nobody", 2026, "On Shifts", "https://arxiv.org/abs/0000.00000"),),
    presets={"cpu": PRESET, "moment": PRESET.model_copy(update={"tvp_layers": (None,)})},
)


@pytest.fixture
def registered() -> Iterator[None]:
    register(ROW)
    yield
    FAMILIES.unregister("shift")


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_it_is_in_help_trained_estimated_and_run_in_experiments(
    registered: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["train"], ["estimate", "train"]):
        assert "{ginc,linear,offset,regbench,sinusoidal,shift,FILE.py}" in "".join(
            said(capsys, *verb, "--help").replace("│", "").split()
        )
    run = tmp_path / "run"
    data = json.loads(said(capsys, "train", "--task", "shift", "--out", run, "--json"))
    assert {row["variant"] for row in data["rows"]} == {"vanilla", "tvp-1"}
    assert data["task"] == "shift"
    assert Learner.load(run / "seed-0" / "vanilla").family == Shift()
    cost = json.loads(said(capsys, "estimate", "train", "--task", "shift", "--preset", "moment",
                           "--device", "h100", "--json"))  # fmt: skip
    assert cost["rows"][-1]["forward_tokens"] > 0
    found = json.loads(
        said(capsys, "reproduce", "tvp-regbench", "--preset", "smoke", "--tasks", "shift",
             "--out", tmp_path / "reproduced", "--json")
    )  # fmt: skip
    assert found["groups_failed"] == 0
    assert {"shift"} < {row["task"] for row in found["rows"]}


def test_a_preset_it_lacks_is_refused_and_says_which_there_are(registered: None) -> None:
    assert preset_of("shift", "moment").tvp_layers == (None,)
    with pytest.raises(TaskVectorsError, match="no preset 'paper'; it has cpu, moment"):
        preset_of("shift", "paper")


def test_it_comes_in_through_an_entry_point() -> None:
    with installed(FAMILIES, ROW):
        pass


def test_a_file_may_hold_a_row_or_a_class_and_a_learner_names_no_file_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    head = "from taskvectors.learners import Family, VariantsConfig\n" + (
        "from taskvectors.learners.tasks.offset import TokenOffset as T\n"
    )
    preset = "VariantsConfig(task='mine', n_trials=5)"
    file.write_text(f"{head}FAMILY = Family(config=T, presets={{'cpu': {preset}}})\n")
    assert preset_of(str(file)).n_trials == 5
    file.write_text(f"{head}FAMILY = T\n")
    assert preset_of(str(file)).n_trials == VariantsConfig(task="mine").n_trials
    hf: Any = PRESET.training.shape.build(TokenOffset(), seed=0)
    Learner(hf=hf, family=TokenOffset(), family_source=str(file)).save(tmp_path / "learner")
    with pytest.raises(DataError, match="if you trust it: --family"):
        Learner.load(tmp_path / "learner")
    assert Learner.load(tmp_path / "learner", str(file)).family == TokenOffset()
    words = ("evaluate", "--learner", tmp_path / "learner", "--trials", 4, "--json")
    assert json.loads(said(capsys, *words, "--family", file))["rows"]
