"""`random`: a random direction of the same norm at the same sites."""

import torch

from taskvectors.methods.controls.shared.control import CONTROLS, Control, tested_works, vector_of
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.trunk.work import Work

_SEED = 1_000_003


def random_vector(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A random direction of the same norm at the same sites."""
    del config
    # not the seed itself: a vector's own start may have been drawn with that
    generator = torch.Generator().manual_seed(context.seed + _SEED)
    return Candidate(
        method="random",
        vector=vector_of(chosen).random_like(generator),
        shots=chosen.shots,
        strength=chosen.strength,
        configuration="same norm, same sites",
    )


def _works(context: RunContext, config: Learned) -> list[Work]:
    del config
    return tested_works(context, "random")


CONTROLS.register(
    Control(
        name="random",
        make=random_vector,
        works=_works,
        title="Random vector",
        summary="a random direction of the same norm at the same sites",
        needs_vector=True,
    )
)
