"""`lobireft`: a constant edit in a trained low-rank subspace: a task vector."""

from typing import Literal

import torch

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.low_rank import REFT, LowRankConfig, train_edits
from taskvectors.methods.shared.method import METHODS, Method
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.shared.trained_sites import plan_of_training, reads_shots
from taskvectors.methods.training.recipe import Recipe
from taskvectors.vectors import TaskVector


class LobiReFT(LowRankConfig):
    """A constant edit in a low-rank subspace."""

    kind: Literal["lobireft"] = "lobireft"


def lobireft(context: RunContext, config: LobiReFT) -> list[Candidate]:
    """One candidate per layer, or one for all given layers together; each is a task vector.

    Raises:
        TaskVectorsError: The gradient of an edit is zero or not finite on the first step.
        MemoryBudgetError: A training step does not fit the budget.

    Source: Wu et al. (2024), https://arxiv.org/abs/2404.03592, the variant Φ(h) = h + Rᵀ b.
        We differ: b starts at 0; R is the orthonormal factor of a free matrix; learning rates are
        relative to the residual stream.
    """
    return [
        Candidate(
            method=config.kind,
            vector=TaskVector(
                values=torch.stack([edit.held for edit in one.kept.edits]).cpu(),
                sites=one.sites,
                operation="add",
                origin=context.origin(
                    config.kind,
                    shots=config.train_shots,
                    settings=config.recipe.model_dump() | {"rank": config.rank},
                    scores={"validation_accuracy": one.best[0]},
                ),
            ),
            shots=config.train_shots,
            configuration=f"rank {config.rank}",
            cost=cost,
            converged=one.is_done,
            curve=one.curve,
        )
        for one, cost in train_edits(context, config, is_constant=True)
    ]


METHODS.register(
    Method(
        config=LobiReFT,
        find=lobireft,
        plan=plan_of_training,
        title="Constant low-rank edit (LobiReFT)",
        summary="the constant part of that edit: a vector in a trained low-rank subspace",
        papers=(REFT,),
        fails="At low rank the subspace has to turn first: what its random start does not hold is "
        "learned slowly.",
        quick={"rank": 2, "recipe": Recipe(steps=2, batch_size=4, check_every=1)},
        reads_shots=reads_shots,
    )
)
