"""The one training loop of learners.

A step's sequences are a function of seed and step, and the learning rate is a function of the step,
so a checkpoint is the weights, the optimizer's state and the step. A run that was killed goes on
from its last checkpoint, on a CPU bit for bit.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taskvectors._version import __version__
from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.learners.checkpoints import (
    Checkpoint,
    check_same_run,
    read_checkpoint,
    write_checkpoint,
    write_run,
)
from taskvectors.learners.config import Curriculum, TrainingConfig, places_of
from taskvectors.learners.devices import Devices
from taskvectors.learners.family import Batch, CurriculumStage, TaskFamily, generator_for, moved
from taskvectors.learners.model import Learner
from taskvectors.learners.passes import both_losses, icl_losses, mean_loss
from taskvectors.learners.tracking import Tracker
from taskvectors.models.causal import CausalBody
from taskvectors.progress import track

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
SHARED = "shared.pt"
"""The checkpoint at `tvp_from`, which other variants of the run go on from."""
METRICS = "metrics.jsonl"
_SEQUENCES, _SITES = 1, 2
"""What a generator is for."""

Measure = Callable[[Learner, int], Mapping[str, Any]]


class Objective(nn.Module):
    """A learner with its loss, so that data-parallel training and compilation see one module."""

    def __init__(self, hf: nn.Module, family: TaskFamily, config: TrainingConfig) -> None:
        super().__init__()
        self.hf = hf
        self._body = CausalBody.of(hf)
        self._family = family
        self._config = config

    def forward(self, batch: Batch, *, with_tvp: bool) -> tuple[Tensor, Tensor]:
        """L_ICL and L_TVP of some sequences; the second is 0 without it."""
        config = self._config
        if not with_tvp:
            terms = icl_losses(self._body, self._family, batch)
            loss = mean_loss(terms, batch.weights)
            return loss, torch.zeros_like(loss)
        places = sorted(places_of(config.tvp_layer))
        in_context, prompted = both_losses(
            self._body, self._family, batch, places, stop_gradient=config.stop_gradient
        )
        return (
            mean_loss(in_context, batch.weights),
            mean_loss(prompted, batch.query_weights),
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished run."""

    learner: Learner
    curve: tuple[Mapping[str, Any], ...]
    """What `metrics.jsonl` holds: losses, and measures along training."""
    seconds: float
    """Of this process; a run that went on counts only what came after."""


def train(  # noqa: PLR0913  (what is trained, how, and where to)
    family: TaskFamily,
    config: TrainingConfig,
    folder: Path,
    *,
    family_source: str,
    measure: Measure | None = None,
    devices: Devices | None = None,
    shared: Path | None = None,
    tracker: Tracker | None = None,
) -> Trained:
    """Train a learner, or go on with a run that was cut off.

    Args:
        family: The family of tasks.
        config: How to train.
        folder: The run's folder: checkpoints, metrics, and at the end the learner.
        family_source: The family's name or file, to find it again when the learner is loaded.
        measure: Measures a learner along training.
        devices: What it runs on; the first GPU, else the CPU, by default.
        shared: Folder of a run whose steps before `tvp_from` are the same, to go on from.
        tracker: Also told every metric.

    Raises:
        DataError: The folder holds another run, or `shared` has no shared steps.
    """
    devices = devices or Devices()
    folder.mkdir(parents=True, exist_ok=True)
    _check_same_run(folder, family_source, family, config, is_main=devices.is_main)
    hf = config.shape.build(family, config.seed).to(devices.device)
    learner = Learner(
        hf=hf,
        family=family,
        family_source=family_source,
        about={"training": config.model_dump(mode="json"), "versions": _versions()},
    )
    run = _Run(
        learner=learner,
        config=config,
        folder=folder,
        devices=devices,
        measure=measure,
        tracker=tracker,
    )
    started = time.perf_counter()
    run.restore(shared)
    run.train()
    if devices.is_main:
        learner.save(folder)
    return Trained(learner=learner, curve=tuple(run.metrics), seconds=time.perf_counter() - started)


def stage_at(step: int, curriculum: Curriculum | None) -> CurriculumStage:
    """How much a sequence of some step shows.

    Example:
        >>> stage_at(4500, Curriculum(every=2000, dims=(5, 20, 1))).n_dims
        7
    """
    if curriculum is None:
        return CurriculumStage()

    def grown(first: int, last: int, by: int) -> int:
        return min(last, first + by * (step // curriculum.every))

    return CurriculumStage(
        n_demonstrations=None
        if curriculum.demonstrations is None
        else grown(*curriculum.demonstrations),
        n_dims=None if curriculum.dims is None else grown(*curriculum.dims),
    )


def rate_at(step: int, config: TrainingConfig) -> float:
    """The learning rate of some step: a rise, a plateau up to `tvp_from`, a cosine to a tenth."""
    rise = min(1.0, (step + 1) / (config.warmup_steps + 1))
    fall = max(0, step - config.tvp_from) / max(1, config.steps - config.tvp_from)
    return config.learning_rate * rise * (0.55 + 0.45 * math.cos(math.pi * fall))


def draw_batch(family: TaskFamily, config: TrainingConfig, step: int, devices: Devices) -> Batch:
    """The sequences of some step, on their device."""
    words = (config.seed, step, devices.rank)
    generator = generator_for(devices.device, *words, _SEQUENCES)
    tasks = family.draw_tasks(config.batch_size // devices.n, generator)
    batch = family.batch(tasks, generator, stage_at(step, config.curriculum))
    n_sites = batch.sites.shape[1]
    if n_sites > config.sites_per_sequence:
        generator = generator_for(devices.device, *words, _SITES)
        order = torch.randperm(n_sites, generator=generator, device=generator.device)
        batch = batch.with_sites(order[: config.sites_per_sequence])
    return moved(batch, devices.device)


@dataclass(kw_only=True, eq=False)
class _Run:
    """A run in progress."""

    learner: Learner
    config: TrainingConfig
    folder: Path
    devices: Devices
    measure: Measure | None
    tracker: Tracker | None

    def __post_init__(self) -> None:
        self.step = 0
        self.metrics: list[Mapping[str, Any]] = []
        objective = Objective(self.learner.hf, self.learner.family, self.config)
        optimizer = torch.optim.AdamW(
            objective.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        self.objective, self.optimizer = self.devices.prepared(objective, optimizer)

    def train(self) -> None:
        """All steps that are left."""
        config, note = self.config, ""
        with track("training", config.steps, initial=self.step) as progress:
            while self.step < config.steps:
                losses = self._step()
                self.step += 1
                if self.step % config.measure_every == 0 or self.step == config.steps:
                    point = self._point(*losses)
                    note = f"loss {point['icl_loss']:.4g}"
                if self.step == config.tvp_from:
                    self._save(SHARED)
                if self.step % config.checkpoint_every == 0 or self.step == config.steps:
                    self._save(CHECKPOINT)
                progress.update(note=note)

    def _step(self) -> tuple[Tensor, Tensor]:
        config = self.config
        batch = draw_batch(self.learner.family, config, self.step, self.devices)
        with_tvp = config.tvp_layer is not None and self.step >= config.tvp_from
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, config)
        with torch.autocast(
            self.devices.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
        ):
            in_context, prompted = self.objective(batch, with_tvp=with_tvp)
        self.optimizer.zero_grad(set_to_none=True)
        self.devices.backward(in_context + config.tvp_weight * prompted)
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.learner.hf.parameters(), config.clip)
        self.optimizer.step()
        return in_context.detach(), prompted.detach()

    def _point(self, in_context: Tensor, prompted: Tensor) -> Mapping[str, Any]:
        """One line of the metrics.

        Raises:
            TaskVectorsError: The loss or a weight is not finite.
        """
        held = (in_context, prompted, *self.learner.hf.parameters())
        if not all(bool(value.isfinite().all()) for value in held):
            raise TaskVectorsError(
                f"the loss or a weight is not finite after step {self.step}; lower the learning "
                f"rate, which is {self.config.learning_rate:g}"
            )
        point: dict[str, Any] = {
            "step": self.step,
            "icl_loss": float(in_context),
            "tvp_loss": float(prompted),
        }
        if self.measure is not None:
            point |= self.measure(self.learner, self.step)
        self.metrics.append(point)
        if self.devices.is_main:
            with (self.folder / METRICS).open("a") as lines:
                lines.write(json.dumps(point) + "\n")
            if self.tracker is not None:
                self.tracker.log(point, self.step)
        return point

    def _save(self, name: str) -> None:
        """Write a checkpoint."""
        if not self.devices.is_main:
            return
        held = Checkpoint(
            step=self.step,
            weights=self.learner.hf.state_dict(),
            optimizer=self.optimizer.state_dict(),
            metrics=[dict(point) for point in self.metrics],
        )
        write_checkpoint(self.folder / name, held)

    def restore(self, shared: Path | None) -> None:
        """Go on from the run's own checkpoint, else from the shared steps of another run."""
        path = self.folder / CHECKPOINT
        if not path.is_file() and shared is not None:
            path = shared / SHARED
            if not path.is_file():
                raise DataError(
                    f"{shared} has no {SHARED}: it was not trained up to step "
                    f"{self.config.tvp_from}; train it first"
                )
        if not path.is_file():
            self._write_metrics()
            return
        held = read_checkpoint(path, self.devices.device)
        try:
            self.learner.hf.load_state_dict(held.weights)
            self.optimizer.load_state_dict(held.optimizer)
        except (RuntimeError, ValueError, LookupError) as error:
            raise DataError(
                f"{path} is of another learner ({error}); delete it, and training starts from its "
                "beginning"
            ) from error
        self.step, self.metrics = held.step, list(held.metrics)
        self._write_metrics()  # points after the checkpoint are made again
        if self.step >= self.config.steps:
            logger.info("finished before")
        else:
            logger.info("going on from step %d", self.step)

    def _write_metrics(self) -> None:
        if self.devices.is_main:
            lines = [json.dumps(point) + "\n" for point in self.metrics]
            write_whole(self.folder / METRICS, "".join(lines))


def _versions() -> dict[str, str]:
    return {"taskvectors": __version__} | {
        name: version(name) for name in ("torch", "transformers")
    }


def _check_same_run(
    folder: Path,
    family_source: str,
    family: TaskFamily,
    config: TrainingConfig,
    *,
    is_main: bool,
) -> None:
    """Note what the folder's run is, or raise if it is another one."""
    held: Any = family
    asked = {
        "family": family_source,
        "settings": held.model_dump(mode="json"),
        "training": config.model_dump(mode="json"),
    }
    path = folder / "run.json"
    check_same_run(path, asked)
    if is_main:
        write_run(path, asked)
