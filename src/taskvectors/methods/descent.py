"""Gradient descent with a validation split: steps, checks, the best kept, who is done retired.

What is trained, and through which passes, is a subclass's. Several things can be trained side by
side in one pass a step; each has its own best step and stops by itself.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.methods.recipe import Recipe
from taskvectors.methods.run_context import RunContext
from taskvectors.progress import track
from taskvectors.trunk import AnswerScores, Batch, FullForward, Trunk
from taskvectors.trunk.graph import GraphedLosses


@dataclass(kw_only=True, eq=False)
class Trainee:
    """One thing in training, and how it has gone."""

    best: tuple[float, float] = (-1.0, -torch.inf)
    """Validation accuracy, then log-probability, at the best check."""
    kept: Any = None
    """As it was at its best check; None before the first."""
    checks_since_best: int = 0
    steps: int = 0
    is_done: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)


T = TypeVar("T", bound=Trainee)


class Descent(ABC, Generic[T]):
    """A training run. Subclasses say what is trained."""

    can_capture = True
    """Whether a step has the same shapes and kernels each time, as a captured graph needs."""

    def __init__(
        self,
        context: RunContext,
        passes: Trunk | FullForward,
        recipe: Recipe,
        trainees: Sequence[T],
    ) -> None:
        self.passes = passes
        self.recipe = recipe
        self.seed = context.seed
        self.trainees = list(trainees)
        self.seconds = 0.0

    @property
    def learning_rate(self) -> float:
        """Of AdamW at the start."""
        return self.recipe.learning_rate

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """What AdamW trains, as its parameter groups."""

    @abstractmethod
    def losses(self, batch: Batch, active: Sequence[T]) -> Float[Tensor, " branch"]:
        """One loss per active trainee; each depends on its own parameters only."""

    @abstractmethod
    def scores(self, active: Sequence[T]) -> list[AnswerScores]:
        """What active trainees give on the validation split, as many prompts at once as fit."""

    @abstractmethod
    def values(self, trainee: T) -> Any:
        """A copy of a trainee as it is now."""

    @abstractmethod
    def check_gradient(self) -> None:
        """Raise if the first gradient shows that something does not act."""

    def train(self) -> None:
        """Steps and checks until all are done or the steps are used up."""
        from transformers import get_scheduler

        recipe, started = self.recipe, time.perf_counter()
        groups = self.groups()
        optimizer = torch.optim.AdamW(
            groups, lr=self.learning_rate, weight_decay=recipe.weight_decay
        )
        scheduler = get_scheduler(
            recipe.schedule,
            optimizer,
            num_warmup_steps=0,
            num_training_steps=recipe.schedule_steps or recipe.steps,
        )
        batches = Batches(self.passes, recipe.batch_size, self.seed)
        device = self.passes.model.device if self.can_capture else torch.device("cpu")
        parameters = [parameter for group in groups for parameter in group["params"]]
        losses_of = GraphedLosses(self.losses, parameters, device)
        active, note = list(self.trainees), ""
        with torch.enable_grad(), track("learning", recipe.steps) as progress:
            for step in range(1, recipe.steps + 1):
                losses = losses_of(batches.draw(), active)
                if step == 1:
                    self.check_gradient()
                optimizer.step()
                scheduler.step()
                if step % recipe.check_every == 0 or step == recipe.steps:
                    self.check(active, losses, step)
                    active = [one for one in active if not one.is_done]
                    note = f"{len(active)} in training, loss {float(losses.mean()):.3f}"
                    if not active:
                        break
                progress.update(note=note)
        self.seconds = time.perf_counter() - started

    def check(self, active: Sequence[T], losses: Tensor, step: int) -> None:
        """Score on validation, keep each one's best, and retire who is done."""
        with torch.no_grad():
            merits = merits_of(self.scores(active))
        for index, (one, reached) in enumerate(zip(active, merits, strict=True)):
            one.steps = step
            one.checks_since_best += 1
            if reached > one.best:
                one.best, one.checks_since_best = reached, 0
                one.kept = self.values(one)
            one.curve.append(
                {
                    "step": step,
                    "loss": float(losses[index]),
                    "validation_accuracy": reached[0],
                    "validation_logprob": reached[1],
                }
            )
            patience = self.recipe.patience
            one.is_done = patience is not None and one.checks_since_best >= patience


def merits_of(parts: Sequence[AnswerScores]) -> list[tuple[float, float]]:
    """Accuracy and mean log-probability of each branch, over prompts that were scored in parts."""
    hits = torch.cat([part.is_best.all(dim=2).double() for part in parts])
    lengths = [part.present.sum(dim=1, keepdim=True) for part in parts]
    log_probability = torch.cat(
        [part.log_probability.sum(dim=2) / n for part, n in zip(parts, lengths, strict=True)]
    )
    return list(zip(hits.mean(dim=0).tolist(), log_probability.mean(dim=0).tolist(), strict=True))


def in_pieces(passes: Trunk | FullForward, size: int) -> list[Batch]:
    """All prompts, so many at once."""
    n = len(passes.cut.prompts)
    if size >= n:
        return [passes.batch()]
    return [passes.batch(range(start, min(start + size, n))) for start in range(0, n, size)]


@dataclass(kw_only=False, eq=False)
class Batches:
    """Mini-batches without replacement, drawn anew each time all prompts were seen."""

    passes: Trunk | FullForward
    size: int
    seed: int
    _left: list[int] = field(default_factory=list)
    _generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self.size = min(self.size, len(self.passes.cut.prompts))
        lengths = sorted(map(len, self.passes.cut.answers), reverse=True)
        self._n_reads = sum(lengths[: self.size])

    def draw(self) -> Batch:
        """The next one; of constant shape on a GPU, where the step is a graph."""
        if len(self._left) < self.size:
            n_prompts = len(self.passes.cut.prompts)
            self._left = torch.randperm(n_prompts, generator=self._generator).tolist()
        rows, self._left = self._left[: self.size], self._left[self.size :]
        if isinstance(self.passes, Trunk) and self.passes.model.device.type == "cuda":
            return self.passes.batch(rows, n_reads=self._n_reads)
        return self.passes.batch(rows)
