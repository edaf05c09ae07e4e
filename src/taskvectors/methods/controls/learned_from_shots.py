"""`learned-from-shots`: a vector learned from as many pairs as a few-shot prompt shows."""

from dataclasses import replace

from taskvectors.methods.controls.shared.control import (
    CONTROLS,
    Control,
    learned_at_same_sites,
    learned_works,
)
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.trunk.work import Work


def _few(context: RunContext, config: Learned) -> Learned:
    return config.model_copy(update={"n_examples": context.shots})


def learned_from_shots(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned from as many pairs as a few-shot prompt shows."""
    found = learned_at_same_sites(context, chosen, _few(context, config))
    return replace(
        found, method="learned-from-shots", configuration=f"learned from {context.shots} pairs"
    )


def _works(context: RunContext, config: Learned) -> list[Work]:
    return learned_works("learned-from-shots", context, _few(context, config))


CONTROLS.register(
    Control(
        name="learned-from-shots",
        make=learned_from_shots,
        works=_works,
        title="Learned from the demonstrations alone",
        summary="a vector learned from as many pairs as a few-shot prompt shows",
        needs_vector=True,
        reads_shots=True,
    )
)
