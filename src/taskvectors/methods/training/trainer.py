"""Gradient descent with a validation split: steps, checks, the best kept, early stopping.

Subclasses state what is trained. Several things can be trained side by side in one pass per step;
each has its own best check and stops by itself.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.candidate import Cost
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training.recipe import Recipe
from taskvectors.methods.training.trunks import Batches, Merit, TrainingTrunks, merits_of
from taskvectors.methods.training.vocabulary import Reads, TrainingVocabulary
from taskvectors.models.unembedding import SoftTargets
from taskvectors.progress import track
from taskvectors.trunk import AnswerScores, Batch, Branch, FullForward, Trunk
from taskvectors.trunk.answers import answer_losses, answer_states
from taskvectors.trunk.graph import GraphedLosses
from taskvectors.vectors import Site

FIRST_RENEWAL, LONGER = 5, 3
"""Steps to the first renewal of the shortlist, and how many times as long as the interval before
each one is."""
_RENEWAL_PROMPTS = 64
"""Training prompts that a renewal looks at; drawn anew each time where there are more."""


@dataclass(kw_only=True, eq=False)
class TrainState:
    """One thing in training, and how it has gone."""

    best: Merit = (-1.0, -torch.inf)
    """Validation accuracy, then log-probability, at the best check."""
    kept: Any = None
    """Its values at the best check; None before the first."""
    checks_since_best: int = 0
    steps: int = 0
    is_done: bool = False
    """Whether training stopped because validation no longer improved."""
    curve: list[dict[str, float]] = field(default_factory=list)
    unlisted: float = 0.0
    """What tokens that are not on the shortlist added to the loss at its last renewal."""


T = TypeVar("T", bound=TrainState)


class Trainer(ABC, Generic[T]):
    """A training run.

    Args:
        context: Model and task.
        passes: What the training prompts run through.
        recipe: How to train.
        states: The things that are trained.
    """

    starts_plain = False
    """Whether all states start as the plain run, and so give the same first shortlist."""
    first_renewal = FIRST_RENEWAL
    """Steps to the first renewal."""

    def __init__(
        self,
        context: RunContext,
        passes: Trunk | FullForward,
        recipe: Recipe,
        states: Sequence[T],
    ) -> None:
        self.passes = passes
        self.recipe = recipe
        self.seed = context.seed
        self.states = list(states)
        self.seconds = 0.0
        self.vocabulary = TrainingVocabulary(
            passes.model.unembedding, [token for answer in passes.cut.answers for token in answer]
        )
        self._renewal = torch.Generator().manual_seed(context.seed)

    @property
    def learning_rate(self) -> float:
        """Of AdamW at the start."""
        return self.recipe.learning_rate

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of AdamW."""

    @abstractmethod
    def run(self, batch: Batch, active: Sequence[T]) -> Float[Tensor, "row branch suffix d_model"]:
        """`resid_post` of the last block; each branch depends on its own parameters only."""

    def soft(self, batch: Batch) -> SoftTargets | None:
        """The distributions to be close to beside the labels, over the tokens of the loss."""
        del batch
        return None

    def losses(self, batch: Batch, active: Sequence[T]) -> Float[Tensor, " branch"]:
        """One loss per active state, over the tokens of the training vocabulary."""
        return answer_losses(
            self.passes.model,
            self.run(batch, active),
            batch,
            self.soft(batch),
            self.vocabulary.shortlist,
        )

    @abstractmethod
    def scores(self, active: Sequence[T]) -> list[AnswerScores]:
        """Scores of active states on the validation split, as many prompts at once as fit."""

    @abstractmethod
    def values(self, state: T) -> Any:
        """A copy of the values of a state now."""

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
        device = self.passes.model.device if self.passes.can_capture else torch.device("cpu")
        parameters = [parameter for group in groups for parameter in group["params"]]
        losses_of = GraphedLosses(self.losses, parameters, device)
        active, note = list(self.states), ""
        self.renew(active[:1] if self.starts_plain else active)
        for state in active if self.starts_plain else ():
            state.unlisted = active[0].unlisted
        interval = renewal = self.first_renewal
        with torch.enable_grad(), track("learning", recipe.steps) as progress:
            for step in range(1, recipe.steps + 1):
                losses = losses_of(batches.draw(), active)
                if step == 1:
                    self.check_gradient()
                optimizer.step()
                scheduler.step()
                if step == renewal:
                    shortlist = self.vocabulary.shortlist
                    interval = interval * LONGER if self.renew(active) else FIRST_RENEWAL
                    renewal += interval
                    if self.vocabulary.shortlist is not shortlist:
                        losses_of.forget()
                if step % recipe.check_every == 0 or step == recipe.steps:
                    self.check(active, losses, step)
                    active = [state for state in active if not state.is_done]
                    note = f"{len(active)} in training, loss {float(losses.mean()):.3f}"
                    if not active:
                        break
                progress.update(note=note)
        self.seconds = time.perf_counter() - started

    def renew(self, active: Sequence[T]) -> bool:
        """Renew the shortlist; whether the one before it was close enough to the vocabulary."""
        renewal = self.vocabulary.renew(self._reads(active))
        unlisted = torch.zeros(len(active)) if renewal.after is None else renewal.after
        for state, more in zip(active, unlisted.tolist(), strict=True):
            state.unlisted = more
        return renewal.was_close

    def _reads(self, active: Sequence[T]) -> Iterator[Reads]:
        """What training reads now, on all training prompts or on some of many."""
        model, n = self.passes.model, len(self.passes.cut.prompts)
        rows = torch.randperm(n, generator=self._renewal)[:_RENEWAL_PROMPTS].tolist()
        for start in range(0, len(rows), self.recipe.batch_size):
            batch = self.passes.batch(rows[start : start + self.recipe.batch_size])
            state = model.read_state(answer_states(self.run(batch, active), batch))
            yield Reads(
                state=state,
                targets=batch.targets,
                weights=batch.weights / len(rows),
                soft=self.soft(batch),
            )

    def check(self, active: Sequence[T], losses: Tensor, step: int) -> None:
        """Score on validation, keep each state's best, and end those that no longer improve."""
        with torch.no_grad():
            merits = merits_of(self.scores(active))
        for index, (state, reached) in enumerate(zip(active, merits, strict=True)):
            state.steps = step
            state.checks_since_best += 1
            if reached > state.best:
                state.best, state.checks_since_best = reached, 0
                state.kept = self.values(state)
            state.curve.append(
                {
                    "step": step,
                    "loss": float(losses[index]) + state.unlisted,
                    "validation_accuracy": reached[0],
                    "validation_logprob": reached[1],
                }
            )
            patience = self.recipe.patience
            state.is_done = patience is not None and state.checks_since_best >= patience


class TrunkTrainer(Trainer[T]):
    """A training run of branches side by side, through trunks that were built before."""

    def __init__(
        self, context: RunContext, trunks: TrainingTrunks, recipe: Recipe, states: Sequence[T]
    ) -> None:
        super().__init__(context, trunks.train, recipe, states)
        self.trunks = trunks

    @abstractmethod
    def branches(self, states: Sequence[T]) -> list[Branch]:
        """The edits of some states as they are now."""

    def run(self, batch: Batch, active: Sequence[T]) -> Float[Tensor, "row branch suffix d_model"]:
        """The states of each branch."""
        return self.trunks.train.run(self.branches(active), batch)

    def soft(self, batch: Batch) -> SoftTargets | None:
        """What the teacher says."""
        return None if self.trunks.teacher is None else self.trunks.teacher.targets(batch)

    def renew(self, active: Sequence[T]) -> bool:
        """Renew the shortlist, also for the teacher."""
        was_short = self.vocabulary.shortlist is not None
        was_close = super().renew(active)
        short, teacher = self.vocabulary.shortlist, self.trunks.teacher
        if teacher is not None and (was_short or short is not None):
            teacher.normalize(self.vocabulary.full if short is None else short.unembedding)
        return was_close

    def scores(self, active: Sequence[T]) -> list[AnswerScores]:
        """Scores of each state's branch."""
        return self.trunks.scores(self.branches(active))

    def cost(self, state: T, *, seconds: float, peak_bytes: int, parameters: int) -> Cost:
        """What one state took, once trained.

        Args:
            state: The state.
            seconds: Of the whole run with its trunks; states share it.
            peak_bytes: Memory at the peak of the run.
            parameters: Numbers of this state that were trained.
        """
        n_states = len(self.states)
        n_runs = state.steps * min(self.recipe.batch_size, self.trunks.train.n_prompts)
        (branch,) = self.branches([state])
        return Cost(
            examples=self.trunks.train.n_prompts,
            steps=state.steps,
            seconds=seconds / n_states,
            seconds_per_step=self.seconds / max(one.steps for one in self.states) / n_states,
            peak_bytes=peak_bytes,
            forward_tokens=self.trunks.tokens(branch, n_runs, len(state.curve), n_shared=n_states),
            parameters=parameters,
        )


def renewals(steps: int) -> list[int]:
    """The steps after which the shortlist is renewed, as long as it stays close."""
    planned, interval = [], FIRST_RENEWAL
    at = interval
    while at <= steps:
        planned.append(at)
        interval *= LONGER
        at += interval
    return planned


def check_gradient(sites: Sequence[Site], gradient: Float[Tensor, "site width"]) -> None:
    """Raise where the gradient at a site is zero or not finite.

    A hook that does not act leaves a zero gradient, and a silent zero-shot baseline.

    Raises:
        TaskVectorsError: It is; the message names the site.
    """
    for site, own in zip(sites, gradient, strict=True):
        check_norm(
            own,
            f"at layer {layer_name(site.layer)}, position {site.position}",
            "there. A position that no answer token can see has none; choose another site",
        )


def check_norm(gradient: Tensor | None, of: str, where: str) -> None:
    """Raise where a gradient is zero or not finite.

    Args:
        gradient: The gradient.
        of: What it is of, for the message.
        where: Where nothing can be learned, and what to do.

    Raises:
        TaskVectorsError: It is.
    """
    norm = 0.0 if gradient is None else float(gradient.norm())
    if not 0 < norm < float("inf"):
        raise TaskVectorsError(
            f"the gradient {of} is {norm} on the first step: nothing can be learned {where}"
        )
