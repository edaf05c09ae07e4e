"""`other-task`: a vector learned for another task at the same sites."""

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
from taskvectors.tasks import load_task

OTHER_TASKS = ("antonym", "capital")
"""The first that is not the task itself."""


def other_task(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """A vector learned for another task at the same sites."""
    name = next(name for name in OTHER_TASKS if name != context.task.name)
    task = load_task(
        name,
        seed=context.task.seed,
        n_train=len(context.task.train),
        n_validation=len(context.task.validation),
    )
    found = learned_at_same_sites(context.with_task(task), chosen, config)
    return replace(found, method="other-task", configuration=f"learned on {name}")


CONTROLS.register(
    Control(
        name="other-task",
        make=other_task,
        works=partial(learned_works, "other-task"),
        title="Another task's vector",
        summary="a vector learned for another task at the same sites",
        needs_vector=True,
    )
)
