"""`shuffled-labels`: a vector learned on the same inputs with their answers permuted."""

from dataclasses import replace
from functools import partial

from taskvectors.methods.controls.shared.control import (
    CONTROLS,
    Control,
    learned_at_same_sites,
    learned_works,
)
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.run_context import RunContext


def shuffled_labels(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned on the same inputs with their answers permuted."""
    task = context.task.shuffled(context.seed)
    found = learned_at_same_sites(context.with_task(task), chosen, config)
    return replace(found, method="shuffled-labels", configuration="answers permuted")


CONTROLS.register(
    Control(
        name="shuffled-labels",
        make=shuffled_labels,
        works=partial(learned_works, "shuffled-labels"),
        title="Learned on shuffled answers",
        summary="a vector learned on the same inputs with their answers permuted",
        needs_vector=True,
    )
)
