"""`icl-most-shots`: as many demonstrations as fit, the same for all queries."""

from dataclasses import replace

from taskvectors.evaluate.scoring import shared_length
from taskvectors.methods.controls.shared.control import CONTROLS, Control
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.prompts import most_shots
from taskvectors.trunk.work import Work, run_of, whole_passes


def icl_most_shots(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """As many demonstrations as the context or the training split holds, alike for all queries."""
    del chosen, config
    split = (*context.task.validation, *context.task.test)
    shots = most_shots(
        context.model.tokenizer,
        context.template,
        split,
        context.task.train,
        context.model.context_length,
        seed=context.seed,
        chat=context.chat,
    )
    return Candidate(
        method="icl-most-shots",
        shots=shots,
        shared_demonstrations=True,
        configuration=f"{shots} shots",
        cost=Cost(examples=shots),
    )


def _works(context: RunContext, config: Learned) -> list[Work]:
    """What all prompts begin with, once, and the rest of each behind it."""
    shots = icl_most_shots(context, Candidate(method="learned"), config).shots
    asked = context.prompts("test", shots, shared_demonstrations=True)
    n = shared_length([prompt.token_ids for prompt in asked])
    first = replace(asked[0], token_ids=asked[0].token_ids[:n])
    rest = [replace(prompt, token_ids=prompt.token_ids[n:]) for prompt in asked]
    behind = whole_passes("queries", rest, context.model.n_layers, n_passes=1)
    return [
        run_of("demonstrations", [first]),
        replace(behind, shape=replace(behind.shape, prefix=n)),
    ]


CONTROLS.register(
    Control(
        name="icl-most-shots",
        make=icl_most_shots,
        works=_works,
        title="In-context learning, as many shots as fit",
        summary="as many demonstrations as the context or the training split holds",
    )
)
