"""A small learner that is trained while somebody watches."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taskvectors.learners import TrainingConfig
from taskvectors.learners.families import load_family, preset_of
from taskvectors.learners.rows import curve_point
from taskvectors.learners.training import train
from taskvectors.results.figures import Figure, Series, style_at

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


def recovery_figure(points: Sequence[LivePoint]) -> Figure:
    """Recovery by layer along training; 1 is all that demonstrations gain."""
    steps = tuple(float(point.step) for point in points)
    n_layers = max((len(point.recovery) for point in points), default=0)
    return Figure(
        name="recovery",
        title="Recovery by layer",
        x_label="Step",
        y_label="Recovery",
        series=tuple(
            Series(
                label=f"layer {layer}",
                x=steps,
                y=tuple(_within(point.recovery[layer]) for point in points),
                style=style_at(layer),
            )
            for layer in range(n_layers)
        ),
    )


def error_figure(points: Sequence[LivePoint]) -> Figure:
    """Shares of wrong answers along training, with demonstrations and without."""
    steps = tuple(float(point.step) for point in points)
    kinds = {
        "with demonstrations": tuple(point.icl_error for point in points),
        "the query alone": tuple(point.zero_shot_error for point in points),
    }
    return Figure(
        name="errors",
        title="Wrong answers",
        x_label="Step",
        y_label="Wrong answers",
        series=tuple(
            Series(label=label, x=steps, y=shares, style=style_at(number))
            for number, (label, shares) in enumerate(kinds.items())
        ),
        shares=True,
    )


def _within(recovery: float | None) -> float | None:
    """Recovery in reach of the axis: while demonstrations gain little, it is far beyond 0 and 1."""
    return None if recovery is None else min(1.2, max(-0.2, recovery))
