"""Trackers, with the packages that they are for replaced by ones that listen."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tracking import open_tracker, track_curves

POINT = {"step": 5, "icl_loss": 0.5, "recovery": [0.25, None, 1.0], "note": "text"}


def test_trackio_is_told_numbers_and_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []
    fake = ModuleType("trackio")
    fake.init = lambda **about: told.append(about["name"])  # type: ignore[attr-defined]
    fake.log = lambda values, step: told.append((step, values))  # type: ignore[attr-defined]
    fake.finish = lambda: told.append("finished")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tracker = open_tracker("trackio", tmp_path / "run")
    tracker.log(POINT, 5)
    tracker.close()
    numbers = {"icl_loss": 0.5, "recovery/0": 0.25, "recovery/2": 1.0}
    assert told == ["run", (5, numbers), "finished"]


def test_tensorboard_is_told_each_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Any] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            told.append(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def close(self) -> None:
            told.append("closed")

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    tracker = open_tracker("tensorboard", tmp_path)
    tracker.log(POINT, 5)
    tracker.close()
    assert told[0] == str(tmp_path)
    assert ("recovery/2", 1.0, 5) in told
    assert told[-1] == "closed"


def test_a_tracker_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(TaskVectorsError, match="package trackio; install it"):
        open_tracker("trackio", tmp_path)


def test_wandb_is_kept_in_the_folder_and_sent_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []

    class Run:
        def log(self, values: Any, step: int) -> None:
            told.append((step, values))

        def finish(self) -> None:
            told.append("finished")

    def init(**about: Any) -> Run:
        told.append((about["mode"], about["dir"]))
        return Run()

    fake = ModuleType("wandb")
    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = open_tracker("wandb", tmp_path / "run")
    tracker.log(POINT, 5)
    tracker.close()
    assert told[0] == ("offline", str(tmp_path / "run"))
    assert told[1] == (5, {"icl_loss": 0.5, "recovery/0": 0.25, "recovery/2": 1.0})
    assert told[-1] == "finished"
    assert (tmp_path / "run").is_dir()


def test_curves_of_several_vectors_are_told_step_by_step_under_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []
    fake = ModuleType("trackio")
    fake.init = lambda **about: None  # type: ignore[attr-defined]
    fake.log = lambda values, step: told.append((step, values))  # type: ignore[attr-defined]
    fake.finish = lambda: told.append("finished")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    rows = [
        {"method": "learned", "seed": 0, "layer": layer, "step": step, "loss": loss}
        for layer, losses in {1: [3.0, 2.0], 2: [5.0, None]}.items()
        for step, loss in enumerate(losses)
    ]
    track_curves("trackio", tmp_path, pd.DataFrame(rows))
    one, two = (f"method learned/seed 0/layer {layer}/loss" for layer in (1, 2))
    assert told == [(0, {one: 3.0, two: 5.0}), (1, {one: 2.0}), "finished"]
    told.clear()
    track_curves("trackio", tmp_path, pd.DataFrame())
    assert told == ["finished"]
