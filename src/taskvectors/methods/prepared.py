"""The trunks of a training run: what runs once, before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from taskvectors.methods.descent import Trainee, in_pieces
from taskvectors.methods.recipe import Recipe
from taskvectors.methods.run_context import RunContext
from taskvectors.methods.teacher import Teacher
from taskvectors.prompts import Prompt
from taskvectors.trunk import AnswerScores, Batch, Edit, Position, Trunk, shape_of
from taskvectors.trunk.memory import Kept, TrainingPlan, plan_training
from taskvectors.vectors import Site


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """The trunks that a training run goes through."""

    trunk: Trunk
    validation: Trunk
    checks: tuple[Batch, ...]
    """The validation prompts, as many at once as fit."""
    teacher: Teacher | None
    """The few-shot run to be close to, where the recipe asks for it."""

    @classmethod
    def of(
        cls,
        context: RunContext,
        branches: Sequence[tuple[Site, ...]],
        recipe: Recipe,
        shots: int,
        n_examples: int | None,
    ) -> "Prepared":
        """Build them, within the budget.

        Args:
            context: Model and task.
            branches: The sites of each branch that will run side by side.
            recipe: How it is trained.
            shots: Demonstrations in the prompts.
            n_examples: Training pairs to use; all by default.

        Raises:
            MemoryBudgetError: A step does not fit the budget.
        """

        def asked(split: Any, shots: int) -> tuple[Prompt, ...]:
            prompts = context.prompts(split, shots)
            if split == "train":
                prompts = prompts[:n_examples]
                if recipe.answer == "first-token":
                    prompts = tuple(_first_token(prompt) for prompt in prompts)
            return prompts

        prompts = asked("train", shots)
        validation = asked("validation", shots)
        positions = tuple(dict.fromkeys(site.position for sites in branches for site in sites))
        plan = training_plan(
            context, prompts, validation, positions, len(branches), recipe.batch_size
        )
        teacher = None
        if recipe.distillation:
            shown = asked("train", context.shots)
            teacher = Teacher.of(context, prompts, shown, recipe.distillation)
        trunk, checked = (
            context.trunks.build(
                context.model,
                some,
                positions=positions,
                rows_per_pass=plan.rows_per_pass,
            )
            for some in (prompts, validation)
        )
        return cls(
            trunk=trunk,
            validation=checked,
            checks=tuple(in_pieces(checked, plan.rows_per_check)),
            teacher=teacher,
        )

    def losses(self, branches: Sequence[Sequence[Edit]], batch: Batch) -> Tensor:
        """The loss of each branch on a mini-batch."""
        states = self.trunk.run(branches, batch)
        soft = None if self.teacher is None else self.teacher.targets(batch)
        return self.trunk.answer_losses(states, batch, soft)

    def scores(self, branches: Sequence[Sequence[Edit]]) -> list[AnswerScores]:
        """What each branch gives on the validation split."""
        trunk = self.validation
        return [trunk.answer_scores(trunk.run(branches, batch), batch) for batch in self.checks]

    def tokens(self, branch: Sequence[Edit], one: Trainee, recipe: Recipe, n_shared: int) -> int:
        """Forward tokens of one branch's training, its share of the trunks included."""
        plain = self.trunk.tokens_run(()) + self.validation.tokens_run(())
        if self.teacher is not None:
            plain += self.teacher.n_tokens
        n_prompts = self.trunk.n_prompts
        per_prompt = (self.trunk.tokens_run([branch]) - self.trunk.tokens_run(())) / n_prompts
        batch = min(recipe.batch_size, n_prompts)
        checks = len(one.curve) * self.validation.n_prompts
        return round(plain / n_shared + per_prompt * (one.steps * batch + checks))


def _first_token(prompt: Prompt) -> Prompt:
    return replace(prompt, answer_ids=prompt.answer_ids[:1])


def training_plan(
    context: RunContext,
    prompts: Sequence[Prompt],
    validation: Sequence[Prompt],
    positions: tuple[Position, ...],
    n_vectors: int,
    batch_size: int,
) -> TrainingPlan:
    """How much at once, after checking that trunks and a step fit the budget."""

    def kept(some: Sequence[Prompt], *, is_training: bool) -> Kept:
        shape = shape_of(some, positions, n_branches=n_vectors, is_training=is_training)
        return Kept(shape=shape, n_prompts=len(some))

    def plan(budget: int) -> TrainingPlan:
        return plan_training(
            context.model,
            kept(prompts, is_training=True),
            kept(validation, is_training=False),
            batch_size=batch_size,
            budget=budget,
        )

    return context.trunks.plan(context.model, plan)
