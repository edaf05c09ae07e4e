"""A small learner that is trained while somebody watches."""

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from taskvectors.learners import TrainingConfig
from taskvectors.learners.families import load_family, preset_of
from taskvectors.learners.rows import curve_point
from taskvectors.learners.training import train

FAMILY = "offset"


@dataclass(frozen=True, kw_only=True)
class LivePoint:
    """A learner at some step."""

    step: int
    icl_error: float
    """Share of wrong answers with demonstrations."""
    zero_shot_error: float
    """Share of wrong answers to the query alone."""
    recovery: tuple[float | None, ...]
    """By layer: the share of what demonstrations gain that the vector keeps; None where they gain
    too little."""

    @classmethod
    def of(cls, point: Mapping[str, Any]) -> "LivePoint":
        """A line of a training's metrics."""
        return cls(
            step=point["step"],
            icl_error=point["icl_error"],
            zero_shot_error=point["zero_shot_error"],
            recovery=tuple(point["recovery"]),
        )


def live_config(
    *, tvp_layer: int | None = 1, steps: int | None = None, seed: int = 0, points: int = 40
) -> TrainingConfig:
    """How the learner is trained: as the family's preset has it, in other proportions.

    Args:
        tvp_layer: The layer at which a vector is to form; None for the in-context loss alone.
        steps: All steps; the preset's by default. Its share on the in-context loss alone stays.
        seed: Seed of weights and sequences.
        points: How many points the curves have.
    """
    training = preset_of(FAMILY).training
    steps = steps or training.steps
    changes = {
        "tvp_layer": tvp_layer,
        "steps": steps,
        "tvp_from": round(steps * training.tvp_from / training.steps),
        "seed": seed,
        "measure_every": max(1, steps // points),
        "checkpoint_every": steps,
    }
    return TrainingConfig(**training.model_dump() | changes)


class _Stopped(Exception):  # noqa: N818  (no error: somebody closed the page)
    """The training is to end."""


class _Watcher:
    """A tracker that hands points on, until it is told to stop."""

    def __init__(self) -> None:
        self.points: queue.Queue[Mapping[str, Any] | Exception | None] = queue.Queue()
        self.stopped = threading.Event()

    def log(self, point: Mapping[str, Any], step: int) -> None:
        """Hand a point on."""
        del step
        if self.stopped.is_set():
            raise _Stopped
        self.points.put(point)

    def close(self) -> None:
        """The run is over."""


def train_live(config: TrainingConfig) -> Iterator[LivePoint]:
    """Train a learner of the family `offset` in a thread, and give each point when it is there.

    Closing the iterator ends the training at its next point. Nothing is kept.

    Args:
        config: How to train.

    Raises:
        Exception: What the training raised.
    """
    family = load_family(FAMILY, preset_of(FAMILY).settings)
    watcher = _Watcher()

    def run() -> None:
        outcome: Exception | None = None
        try:
            with TemporaryDirectory(prefix="taskvectors-") as folder:
                train(
                    family,
                    config,
                    Path(folder),
                    family_source=FAMILY,
                    measure=curve_point(config.n_curve_trials),
                    tracker=watcher,
                )
        except _Stopped:
            pass
        except Exception as error:  # raised again where it is waited for
            outcome = error
        watcher.points.put(outcome)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (point := watcher.points.get()) is not None:
            if isinstance(point, Exception):
                raise point
            yield LivePoint.of(point)
    finally:
        watcher.stopped.set()
        thread.join()


def recovery_frame(points: list[LivePoint]) -> pd.DataFrame:
    """Recovery by layer, tidy: a row per step and layer, without those that have no meaning."""
    rows = [
        (point.step, f"layer {layer}", value)
        for point in points
        for layer, value in enumerate(point.recovery)
        if value is not None
    ]
    found = pd.DataFrame(rows, columns=["step", "layer", "recovery"])
    return found.astype({"step": int, "layer": str, "recovery": float})  # of none, too


def error_frame(points: list[LivePoint]) -> pd.DataFrame:
    """Errors with and without demonstrations, tidy."""
    rows = [
        row
        for point in points
        for row in (
            (point.step, "with demonstrations", point.icl_error),
            (point.step, "the query alone", point.zero_shot_error),
        )
    ]
    found = pd.DataFrame(rows, columns=["step", "prompt", "error"])
    return found.astype({"step": int, "prompt": str, "error": float})
