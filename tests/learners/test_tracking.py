"""Trackers, with the packages that they are for replaced by ones that listen."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.tracking import open_tracker

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
