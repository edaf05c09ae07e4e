"""`loreft`: a low-rank edit that depends on the state, trained, the model frozen."""

from typing import Literal

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.low_rank import REFT, LowRankConfig, train_edits
from taskvectors.methods.shared.method import METHODS, Method
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.shared.trained_sites import plan_of_training, reads_shots
from taskvectors.methods.training.recipe import Recipe


class LoReFT(LowRankConfig):
    """A low-rank edit that depends on the state."""

    kind: Literal["loreft"] = "loreft"


def loreft(context: RunContext, config: LoReFT) -> list[Candidate]:
    """One candidate per layer, or one for all given layers together.

    Raises:
        TaskVectorsError: The gradient of an edit is zero or not finite on the first step.
        MemoryBudgetError: A training step does not fit the budget.

    Source: Wu et al. (2024), https://arxiv.org/abs/2404.03592, eq. for LoReFT. We differ: it starts
        at W = R, b = 0, where it changes nothing; R is the orthonormal factor of a free matrix,
        whose decay cannot shrink it; learning rates are relative to the residual stream.
    """
    return [
        Candidate(
            method=config.kind,
            edits=one.kept.on,
            edited=one.sites,
            shots=config.train_shots,
            configuration=f"rank {config.rank}",
            cost=cost,
            converged=one.is_done,
            curve=one.curve,
        )
        for one, cost in train_edits(context, config, is_constant=False)
    ]


METHODS.register(
    Method(
        config=LoReFT,
        find=loreft,
        plan=plan_of_training,
        title="Low-rank edit (LoReFT)",
        summary="a low-rank edit of the state at the site, trained, the model frozen",
        papers=(REFT,),
        fails="It is no task vector: it cannot be saved as one, added to another, or injected "
        "into generation. At rank 4 it has eight times the numbers of a vector and fits few pairs "
        "sooner.",
        gives_vector=False,
        quick={"rank": 2, "recipe": Recipe(steps=2, batch_size=4, check_every=1)},
        reads_shots=reads_shots,
    )
)
