"""Prompts to learn on and prompts to look at: two trunks, for methods that learn weights of heads.

The prompts run once; a mini-batch then costs its branches alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from taskvectors.methods.run_context import RunContext
from taskvectors.prompts import Prompt
from taskvectors.trunk import Batch, Branch, Position, Trunk, prompts_that_fit, shape_of

Merit = tuple[float, float]
"""Accuracy on validation, then log-probability of the answers."""


@dataclass(kw_only=True, eq=False)
class Rehearsal:
    """A training trunk and a validation trunk, within the context's budget."""

    trunk: Trunk
    validation: Trunk

    @classmethod
    def build(
        cls,
        context: RunContext,
        prompts: tuple[Prompt, ...],
        positions: tuple[Position, ...],
        *,
        n_branches: int,
        is_training: bool,
    ) -> "Rehearsal":
        """Run both sets of prompts, unless another method has.

        Args:
            context: Model and task; validation prompts are without demonstrations.
            prompts: Prompts to learn on.
            positions: Positions that branches will edit.
            n_branches: Branches that will run side by side.
            is_training: Whether there will be a backward pass.

        Raises:
            MemoryBudgetError: Not even one prompt fits the budget.
        """
        shape = shape_of(prompts, positions, n_branches=n_branches, is_training=is_training)
        fitting = partial(prompts_that_fit, context.model, shape)
        run = partial(
            context.trunks.build,
            context.model,
            positions=positions,
            rows_per_pass=context.trunks.plan(context.model, fitting),
        )
        return cls(trunk=run(prompts), validation=run(context.prompts("validation")))

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Mini-batches without end and without replacement until all prompts were seen."""
        generator = torch.Generator().manual_seed(seed)
        size = min(size, self.trunk.n_prompts)
        while True:
            order = torch.randperm(self.trunk.n_prompts, generator=generator).tolist()
            for start in range(0, len(order) - size + 1, size):
                yield self.trunk.batch(order[start : start + size])

    def merits(self, branches: Sequence[Branch]) -> list[Merit]:
        """What branches reach on validation."""
        batch = self.validation.batch()
        with torch.no_grad():
            found = self.validation.answer_scores(self.validation.run(branches, batch), batch)
        accuracy = found.is_best.all(dim=2).double().mean(dim=0).tolist()
        lengths = found.present.sum(dim=1, keepdim=True)
        log_probability = (found.log_probability.sum(dim=2) / lengths).mean(dim=0).tolist()
        return list(zip(accuracy, log_probability, strict=True))

    def tokens(self, branch: Branch, n_runs: int, n_checks: int) -> int:
        """Forward tokens: both trunks, a branch on so many prompts, and so many looks."""
        plain = self.trunk.tokens_run(()) + self.validation.tokens_run(())
        extra = self.trunk.tokens_run([branch]) - self.trunk.tokens_run(())
        per_prompt = extra / self.trunk.n_prompts
        return round(plain + per_prompt * (n_runs + n_checks * self.validation.n_prompts))
