"""The few-shot run as a teacher: what it says next, wherever the answer's tokens are predicted.

A distribution over the vocabulary is held as the state that it comes from and one normalizer, and
made again a slice of the vocabulary at a time where it is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models.unembedding import SoftTargets, Unembedding
from taskvectors.prompts import Prompt
from taskvectors.trunk import Batch, prompts_that_fit, resolve_budget, shape_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """What the model says with demonstrations, for the queries that something is trained on."""

    states: Float[Tensor, "prompt answer d_state"]
    """After the final norm, where each token of the answer is predicted."""
    normalizers: Float[Tensor, "prompt answer"]
    mean_rows: Float[Tensor, "prompt answer d_state"] | None
    """See `SoftTargets`; both are those over the tokens that were last named."""
    share: float
    """Of the divergence in the loss."""
    n_tokens: int
    """Forward tokens that it took."""

    @classmethod
    def of(
        cls, context: RunContext, prompts: Sequence[Prompt], shown: Sequence[Prompt], share: float
    ) -> "Teacher":
        """Run the few-shot prompts once, with the answer given.

        Args:
            context: The model.
            prompts: What is trained on.
            shown: The same queries with demonstrations.
            share: Of the divergence in the loss.

        Raises:
            TaskVectorsError: An answer has other tokens after demonstrations than without.
            MemoryBudgetError: Not even one prompt fits the budget.
        """
        for prompt, other in zip(prompts, shown, strict=True):
            if prompt.answer_ids != other.answer_ids:
                raise TaskVectorsError(
                    f"the answer {prompt.query.output!r} is tokenized differently after "
                    "demonstrations, so the two runs cannot be compared token by token; use "
                    "another template, or the recipe from-zero"
                )
        model = context.model
        budget = resolve_budget(context.memory, model.device)
        step = prompts_that_fit(model, shape_of(shown, (-1,), n_branches=1), budget)
        n_answer = max(len(prompt.answer_ids) for prompt in shown)
        width = model.unembedding.weight.shape[1]
        states = torch.zeros(len(shown), n_answer, width, device=model.device, dtype=model.dtype)
        tokens = 0
        for start in range(0, len(shown), step):
            trunk = context.trunks.build(model, shown[start : start + step])
            batch = trunk.batch()
            with torch.no_grad():
                read = trunk.answer_states(trunk.run([()], batch), batch)[:, 0]
                states[batch.read_rows + start, batch.read_slots] = model.read_state(read)
            tokens += trunk.tokens_run(())
        is_linear = model.unembedding.softcap is None
        teacher = cls(
            states=states,
            normalizers=torch.zeros(len(shown), n_answer, device=model.device),
            mean_rows=torch.zeros_like(states, dtype=torch.float32) if is_linear else None,
            share=share,
            n_tokens=tokens,
        )
        teacher.normalize(model.unembedding)
        return teacher

    def normalize(self, unembedding: Unembedding) -> None:
        """Take its distributions over the tokens of an unembedding, such as a shortlist's."""
        every = SoftTargets.of(unembedding, self.states.flatten(0, 1), self.share)
        # in place: a graph reads them
        self.normalizers.copy_(every.normalizer.view_as(self.normalizers))
        if self.mean_rows is not None and every.mean_row is not None:
            self.mean_rows.copy_(every.mean_row.view_as(self.mean_rows))

    def targets(self, batch: Batch) -> SoftTargets:
        """Its distributions where a mini-batch's answers are read."""
        at = (batch.read_prompts, batch.read_slots)
        return SoftTargets(
            state=self.states[at],
            normalizer=self.normalizers[at],
            mean_row=None if self.mean_rows is None else self.mean_rows[at],
            share=self.share,
        )
