"""`majority`: the most frequent answer of the training split, for every query."""

from collections import Counter

from taskvectors.methods.controls.shared.control import CONTROLS, Control
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.trunk.work import Work


def majority(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """Always the most frequent answer of the training split."""
    del chosen, config
    answer, _ = Counter(pair.output for pair in context.task.train).most_common(1)[0]
    return Candidate(
        method="majority",
        constant_answer=answer,
        configuration=f"always {answer!r}",
        cost=Cost(examples=len(context.task.train)),
    )


def _works(context: RunContext, config: Learned) -> list[Work]:
    """A constant answer is scored without a run."""
    del context, config
    return []


CONTROLS.register(
    Control(
        name="majority",
        make=majority,
        works=_works,
        title="Majority answer",
        summary="always the most frequent answer of the training split",
    )
)
