"""`taskvectors reproduce`, from words to tables and JSON.

Run with `pytest tests/cli/test_reproduce.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskvectors.cli.reproduce import Reproduce
from taskvectors.experiments.experiment import EXPERIMENTS
from taskvectors.experiments.reproduce import ReproduceConfig

Tv = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("without_bars", "no_device_is_measured")


def test_a_preset_that_there_is_none_of_is_refused_with_those_there_are(tv: Tv) -> None:
    said = tv("reproduce", "ltv-ov", "--preset", "huge")
    assert said.code == 2
    assert "--preset: Input should be 'smoke', 'cpu' or 'paper'" in said.err
    assert Reproduce.__dataclass_fields__["preset"].default == ReproduceConfig(experiment="").preset


def test_the_list_has_every_experiment_with_models_tasks_and_seeds(tv: Tv) -> None:
    said = tv("reproduce", "--list", "--json")
    assert said.code == 0, said.err
    rows = said.json["rows"]
    assert [row["name"] for row in rows] == list(EXPERIMENTS)
    first = rows[0]["presets"]["cpu"]
    assert first["models"] == ["embedded"]
    assert first["groups"] == len(first["tasks"]) * len(first["seeds"])
    assert "ltv-main-table" in tv("reproduce", "--list").out


def test_an_experiment_runs_and_shows_its_table(tv: Tv, tmp_path: Path) -> None:
    asked = ["reproduce", "ltv-lens", "--preset", "smoke", "--out", tmp_path / "run"]
    said = tv(*asked, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["experiment"] == "ltv-lens"
    assert found["models"] == ["random"]
    assert {row["measure"] for row in found["rows"]} >= {"label_share", "lens"}
    assert found["published"][0]["value"] == "not read"
    assert "1 of 1 groups done" in said.err
    assert said.err.index("estimated for this machine: ") < said.err.index("in hand")
    again = tv(*asked)
    assert again.code == 0, again.err
    assert "1 of 1 groups finished before" in again.err
    assert "label share" in again.out
    assert found["report"] == str(tmp_path / "run" / "report.html")
    assert Path(found["report"]).is_file()
    assert f"The report is {found['report']}" in again.out
    assert "Published values of label share: not read" in again.out
    config = (tmp_path / "run" / "config.json").read_text()
    assert '"ltv-lens"' in config


@pytest.mark.slow(small_models=True)
def test_several_models_and_tasks_are_a_grid(tv: Tv, tmp_path: Path) -> None:
    said = tv(
        *("reproduce", "ltv-lens", "--preset", "smoke", "--out", tmp_path, "--json"),
        *("--models", "random", "random-gpt2", "--tasks", "antonym", "--seeds", 3),
        *("--dtype", "float32"),
    )
    assert said.code == 0, said.err
    assert said.json["models"] == ["random", "random-gpt2"]
    rows = said.json["rows"]
    assert {row["seed"] for row in rows} == {3, None}
    assert {row["model"] for row in rows} == {"random", "random-gpt2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--list has the names"),
        (["ltv-lenz"], "did you mean ltv-lens"),
        (["tvp-loss", "--model", "random"], "takes no --model"),
        (["ltv-lens", "--model", "no/such-folder"], "cannot load the model"),
        (["ltv-lens", "--gpus", "-1"], "--gpus"),
    ],
)
def test_what_cannot_be_reproduced_is_one_line(
    words: list[str], message: str, tv: Tv, tmp_path: Path
) -> None:
    said = tv("reproduce", *words, "--preset", "smoke", "--out", tmp_path / "run")
    assert said.code == 2
    assert message in said.err
    assert said.out == ""
