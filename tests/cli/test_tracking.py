"""One option tells an experiment tracker of every training that a command does."""

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Tv = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("without_bars", "no_device_is_measured")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, float]]]:
    """What the package trackio is told, step by step."""
    found: list[tuple[int, dict[str, float]]] = []
    fake = ModuleType("trackio")
    fake.__spec__ = ModuleSpec("trackio", None)  # accelerate looks for it
    fake.init = lambda **about: None  # type: ignore[attr-defined]
    fake.log = lambda values, step: found.append((step, values))  # type: ignore[attr-defined]
    fake.finish = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return found


def test_learn_tells_every_layers_curve(
    tv: Tv, told: list[Any], on_model: list[object], tmp_path: Path
) -> None:
    words = ["--layers", 1, 2, "--each-layer", "--steps", 2, "--out", tmp_path / "v"]
    said = tv("learn", *on_model, *words, "--task", "capital", "--tracker", "trackio",
              "--n-train", 12, "--n-validation", 4, "--n-test", 4)  # fmt: skip
    assert said.code == 0, said.err
    names = {name for _, values in told for name in values}
    for layer in (1, 2):
        assert f"method learned/seed 0/layer {layer}/loss" in names


@pytest.mark.parametrize(
    ("experiment", "label"),
    [("ltv-lens", "method learned/seed 0/layer"), ("tvp-ood", "variant vanilla/seed 0/icl_loss")],
)
def test_reproduce_tells_what_its_groups_train(
    tv: Tv, told: list[Any], tmp_path: Path, experiment: str, label: str
) -> None:
    words = ["reproduce", experiment, "--preset", "smoke", "--no-report", "--out", tmp_path / "run"]
    said = tv(*words, "--tracker", "trackio")
    assert said.code == 0, said.err
    assert any(label in name for _, values in told for name in values)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in lines} == {step for step, _ in told}
    told.clear()
    again = tv(*words, "--tracker", "trackio")  # the groups are kept, with their curves
    assert again.code == 0, again.err
    assert told


@pytest.mark.parametrize("verb", ["learn", "reproduce"])
def test_a_tracker_that_is_not_installed_is_said_before_the_work(
    tv: Tv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = {"learn": ["--task", "capital", "--model", "random"], "reproduce": ["ltv-lens"]}[verb]
    said = tv(verb, *words, "--tracker", "wandb", "--out", tmp_path / "run")
    assert said.code == 2
    assert "package wandb; install it" in said.err
    assert not (tmp_path / "run").exists()
