"""Metrics to an experiment tracker, beside `metrics.jsonl`."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from taskvectors.errors import TaskVectorsError

TrackerName = Literal["trackio", "tensorboard"]


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
        self._trackio = _needed("trackio", "trackio")
        self._trackio.init(project="taskvectors", name=folder.name)

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Note the numbers of one step."""
        self._trackio.log(_numbers(point), step=step)

    def close(self) -> None:
        """The run is over."""
        self._trackio.finish()


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._writer = _needed("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

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
    return Trackio(folder) if name == "trackio" else TensorBoard(folder)


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
