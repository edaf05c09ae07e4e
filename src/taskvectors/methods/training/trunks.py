"""The trunks of a training run: what runs once, before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training.teacher import Teacher
from taskvectors.models.tensors import in_double
from taskvectors.prompts import Prompt
from taskvectors.trunk import AnswerScores, Batch, Branch, FullForward, Position, Trunk, shape_of
from taskvectors.trunk.memory import Kept, TrainingPlan, plan_training
from taskvectors.vectors import Site

Merit = tuple[float, float]
"""Accuracy on validation, then mean log-probability of the answers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingTrunks:
    """A trunk to train on and a trunk to check on, within the context's budget."""

    train: Trunk
    validation: Trunk
    checks: tuple[Batch, ...]
    """The validation prompts, as many at once as fit."""
    teacher: Teacher | None = None
    """The few-shot run to be close to, where the recipe asks for it."""

    @classmethod
    def build(  # noqa: PLR0913  (prompts, and sizes of the work on them)
        cls,
        context: RunContext,
        prompts: tuple[Prompt, ...],
        validation: tuple[Prompt, ...],
        *,
        positions: tuple[Position, ...] = (-1,),
        n_branches: int = 1,
        batch_size: int,
        needs_gradient: bool = True,
        teacher: Teacher | None = None,
    ) -> "TrainingTrunks":
        """Run both sets of prompts, unless another method has.

        Args:
            context: Model and task.
            prompts: Prompts to train on.
            validation: Prompts to check on.
            positions: Positions that branches will edit.
            n_branches: Branches that will run side by side.
            batch_size: Prompts per step.
            needs_gradient: Whether there will be a backward pass.
            teacher: The few-shot run on the same queries.

        Raises:
            MemoryBudgetError: Trunks and a step do not fit the budget.
        """

        def kept(some: Sequence[Prompt], *, is_training: bool) -> Kept:
            shape = shape_of(some, positions, n_branches=n_branches, is_training=is_training)
            return Kept(shape=shape, n_prompts=len(some))

        def plan(budget: int) -> TrainingPlan:
            return plan_training(
                context.model,
                kept(prompts, is_training=needs_gradient),
                kept(validation, is_training=False),
                batch_size=batch_size,
                budget=budget,
            )

        planned = context.trunks.plan(context.model, plan)
        train, checked = (
            context.trunks.build(
                context.model, some, positions=positions, rows_per_pass=planned.rows_per_pass
            )
            for some in (prompts, validation)
        )
        return cls(
            train=train,
            validation=checked,
            checks=tuple(in_pieces(checked, planned.rows_per_check)),
            teacher=teacher,
        )

    def scores(self, branches: Sequence[Branch]) -> list[AnswerScores]:
        """What each branch gives on the validation split, over the full vocabulary."""
        trunk = self.validation
        with torch.no_grad():
            return [trunk.answer_scores(trunk.run(branches, batch), batch) for batch in self.checks]

    def merits(self, branches: Sequence[Branch]) -> list[Merit]:
        """What each branch reaches on the validation split."""
        return merits_of(self.scores(branches))

    def tokens(self, branch: Branch, n_runs: int, n_checks: int, *, n_shared: int = 1) -> int:
        """Forward tokens: a share of both trunks, and a branch run on prompts and at checks.

        Args:
            branch: The branch.
            n_runs: Training prompts that it ran on, each time they did.
            n_checks: Checks on the whole validation split.
            n_shared: Branches that share the trunks.
        """
        plain = self.train.tokens_run(()) + self.validation.tokens_run(())
        if self.teacher is not None:
            plain += self.teacher.n_tokens
        extra = self.train.tokens_run([branch]) - self.train.tokens_run(())
        n_prompts = n_runs + n_checks * self.validation.n_prompts
        return round(plain / n_shared + extra / self.train.n_prompts * n_prompts)


def merits_of(parts: Sequence[AnswerScores]) -> list[Merit]:
    """Accuracy and mean log-probability of each branch, over prompts that were scored in parts."""
    hits = torch.cat([in_double(part.is_best.all(dim=2)) for part in parts])
    lengths = [part.present.sum(dim=1, keepdim=True) for part in parts]
    log_probability = torch.cat(
        [part.log_probability.sum(dim=2) / n for part, n in zip(parts, lengths, strict=True)]
    )
    return list(zip(hits.mean(dim=0).tolist(), log_probability.mean(dim=0).tolist(), strict=True))


def in_pieces(passes: Trunk | FullForward, size: int) -> list[Batch]:
    """All prompts, `size` at once."""
    n = len(passes.cut.prompts)
    if size >= n:
        return [passes.batch()]
    return [passes.batch(range(start, min(start + size, n))) for start in range(0, n, size)]


@dataclass(eq=False)
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
        is_cuda = self.passes.model.device.type == "cuda"
        if isinstance(self.passes, Trunk) and self.passes.can_capture and is_cuda:
            return self.passes.batch(rows, n_reads=self._n_reads)
        return self.passes.batch(rows)


def residual_rms(trunk: Trunk, site: Site) -> Float[Tensor, ""]:
    """S of θ = s·u: the median norm of the residual stream at a site, over √d_model."""
    states = trunk.states(site.layer, (site.position,)).float()
    norms = states.norm(dim=-1)
    present = trunk.columns((site.position,)).present  # a name can mean several tokens
    rms: Tensor = (norms if present is None else norms[present]).median() / states.shape[-1] ** 0.5
    return rms
