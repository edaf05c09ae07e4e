"""Metrics to an experiment tracker, beside `metrics.jsonl`."""

import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pandas as pd

from taskvectors.errors import TaskVectorsError

TrackerName = Literal["trackio", "tensorboard", "wandb"]


@runtime_checkable
class Tracker(Protocol):
    """Is told every point of a run."""

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Note the numbers of one step."""

    def close(self) -> None:
        """The run is over."""


class Trackio:
    """A run of the project `taskvectors` in trackio."""

    def __init__(self, folder: Path) -> None:
        self._trackio = _needed(*_MODULES["trackio"])
        self._trackio.init(project="taskvectors", name=folder.name)

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Note the numbers of one step."""
        self._trackio.log(_numbers(point), step=step)

    def close(self) -> None:
        """The run is over."""
        self._trackio.finish()


class Wandb:
    """A run of the project `taskvectors` in wandb, kept in the run's folder and sent nowhere.

    `wandb sync` sends it.
    """

    def __init__(self, folder: Path) -> None:
        wandb = _needed(*_MODULES["wandb"])
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project="taskvectors", name=folder.name, dir=str(folder), mode="offline"
        )

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Note the numbers of one step."""
        self._run.log(_numbers(point), step=step)

    def close(self) -> None:
        """The run is over."""
        self._run.finish()


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._writer = _needed(*_MODULES["tensorboard"]).SummaryWriter(str(folder))

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Note the numbers of one step."""
        for name, value in _numbers(point).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """The run is over."""
        self._writer.close()


def open_tracker(name: TrackerName, folder: Path) -> Tracker:
    """A tracker for the run of a folder.

    Raises:
        TaskVectorsError: Its package is missing.
    """
    kinds: dict[str, Callable[[Path], Tracker]] = {
        "trackio": Trackio,
        "tensorboard": TensorBoard,
        "wandb": Wandb,
    }
    return kinds[name](folder)


_MODULES: dict[TrackerName, tuple[str, str]] = {
    "trackio": ("trackio", "trackio"),
    "tensorboard": ("torch.utils.tensorboard", "tensorboard"),
    "wandb": ("wandb", "wandb"),
}
"""Module and package of each."""


def check_tracker(name: TrackerName) -> None:
    """Raise where a tracker cannot be told anything.

    Raises:
        TaskVectorsError: Its package is missing.
    """
    _needed(*_MODULES[name])


def track_curves(name: TrackerName, folder: Path, curves: pd.DataFrame) -> None:
    """Tell a tracker the curves of a run that has trained several vectors, step by step.

    Args:
        name: The tracker.
        folder: The run's folder.
        curves: One row per logged step of each vector; what tells them apart is in the columns
            that hold no number of a step.

    Raises:
        TaskVectorsError: Its package is missing.
    """
    tracker = open_tracker(name, folder)
    try:
        if not curves.empty:
            for step, rows in curves.groupby("step", sort=True):
                tracker.log(_side_by_side(rows), int(str(step)))
    finally:
        tracker.close()


def _side_by_side(rows: pd.DataFrame) -> dict[str, float]:
    """The numbers of one step of several vectors, each under the name of its vector."""
    found: dict[str, float] = {}
    for row in rows.to_dict("records"):
        about = "/".join(f"{key} {row[key]}" for key in _TELLS_APART if not _absent(row.get(key)))
        numbers = {str(k): v for k, v in row.items() if k not in _TELLS_APART and not _absent(v)}
        found |= {f"{about}/{key}": value for key, value in _numbers(numbers).items()}
    return found


_TELLS_APART = ("group", "task", "method", "variant", "seed", "layer")


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskVectorsError(
            f"the tracker needs the package {package}; install it, or leave the tracker out: "
            "metrics.jsonl has the same numbers"
        ) from error


def _numbers(point: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name; those of a list are numbered."""
    found: dict[str, float] = {}
    for name, value in point.items():
        if isinstance(value, list):
            found |= {f"{name}/{i}": float(v) for i, v in enumerate(value) if v is not None}
        elif isinstance(value, int | float) and name != "step":
            found[name] = float(value)
    return found
