"""The verb `train`, and `evaluate` on a learner."""

import json
from pathlib import Path
from typing import Any

import pytest

from taskvectors.cli import main
from taskvectors.cli.train import FLAGS_WITH_FIELDS, Train
from taskvectors.learners import (
    FAMILIES,
    LearnerShape,
    TrainingConfig,
    VariantsConfig,
)

SMALL = (
    "train", "--task", "offset", "--layers", "3", "--width", "8", "--heads", "1", "--steps", "4",
    "--icl-steps", "2", "--batch-size", "2", "--trials", "8", "--device", "cpu",
    "--set", "n_symbols=7", "n_demonstrations=3",
)  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def verb(*words: str) -> Train:
    from taskvectors.cli.parsing import parse

    found = parse(("train", "--task", *words))
    assert isinstance(found, Train)
    return found


@pytest.mark.slow(small_models=True)
def test_both_variants_are_trained_and_a_learner_is_evaluated_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    data = said(capsys, *SMALL, "--out", str(folder), "--json")
    assert {row["variant"] for row in data["rows"]} == {"vanilla", "tvp-1"}
    page = Path(data["report"]).read_text(encoding="utf-8")
    assert data["report"] == str(folder / "report.html")
    for text in ("another task&#39;s vector", "tvp-1", "In-context error along training", "Yang"):
        assert text in page
    Path(data["report"]).unlink()
    again = said(capsys, "report", str(folder), "--markdown", "--json")
    assert Path(again["report"]).read_text(encoding="utf-8") == page
    assert "| vanilla |" in Path(again["markdown"]).read_text(encoding="utf-8")
    assert data["settings"]["n_symbols"] == 7
    learner = folder / "seed-0" / "tvp-1"
    words = ("evaluate", "--learner", str(learner), "--trials", "8", "--json")
    again = said(capsys, *words)
    kept = said(capsys, *words, "--out", str(tmp_path / "kept"))
    assert kept["rows"] == again["rows"]
    assert kept["report"] == said(capsys, "report", str(tmp_path / "kept"), "--json")["report"]
    expected = [row for row in data["rows"] if row["variant"] == "tvp-1"]
    assert [row["tvp_error"] for row in again["rows"]] == [row["tvp_error"] for row in expected]
    assert {row["shift"] for row in again["shifts"]} >= {"none", "held-out"}
    assert main(("evaluate", "--learner", str(learner), "--trials", "8")) == 0
    assert "tvp-1" in capsys.readouterr().out


def test_layers_that_are_named_are_the_variants() -> None:
    assert verb("offset", "--tvp-layer", "none").config().tvp_layers == (None,)
    assert verb("offset", "--tvp-layer", "none", "0", "2").config().tvp_layers == (None, 0, 2)
    assert verb("offset", "--tvp-layer", "1", "0+2").config().tvp_layers == (1, (0, 2))


@pytest.mark.parametrize("name", FAMILIES)
def test_without_flags_it_is_the_preset(name: str) -> None:
    for preset, config in FAMILIES[name].presets.items():
        assert verb(name, "--preset", preset).config() == config


def test_flags_change_fields_that_there_are() -> None:
    kinds = (LearnerShape, TrainingConfig, VariantsConfig)
    for names, kind in zip(FLAGS_WITH_FIELDS, kinds, strict=True):
        assert set(names.values()) <= set(kind.model_fields)
        assert set(names) <= set(Train.__dataclass_fields__)
    config = verb("linear", "--layers", "6", "--icl-steps", "9", "--seed", "3", "--shifts").config()
    assert config.training.shape.n_layers == 6
    assert config.training.tvp_from == 9
    assert (config.seeds, config.with_shifts) == ((3,), True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "offset", "--tvp-layer", "deep"], "'deep' is no layer"),
        (["--task", "offset", "--set", "n_symbols"], "is not NAME=VALUE"),
        (["--task", "cubic"], "no family of tasks 'cubic'"),
        (["--task", "offset", "--preset", "huge"], "no preset 'huge'; it has cpu, paper"),
        (["--task", "offset", "--learning-rate", "-1"], "--learning-rate"),
        (["--task", "offset", "--set", "format=yx"], "format = 'yx'"),
        (["--task", "offset", "--layers", "2"], "layer 1 is no place for the vector"),
        (["--task", "offset", "--width", "0"], "--width"),
        (["--task", "offset", "--steps", "5"], "--icl-steps"),
    ],
)
def test_what_it_cannot_train_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(("train", *words, "--out", str(tmp_path))) == 2
    assert message in capsys.readouterr().err


def test_evaluate_needs_a_vector_or_a_learner(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(("evaluate",)) == 2
    assert "--learner" in capsys.readouterr().err
