"""What each verb will run, as work.

`WORKS` is the one registry: from a verb's name to a function of what was asked. `train` has no
frozen model, so its cost is in `learners.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taskvectors.explain import ANALYSES, Sizes
from taskvectors.methods import METHODS, Plan, plan_of
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import EMBED
from taskvectors.trunk.work import Work


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be estimated.

    Attributes:
        context: Model, task, demonstrations.
        methods: Configs of what `compare` compares; the first is what `extract` makes.
        learned: How `learn` trains, and where what `explain` explains sits.
        analyses: What `explain` runs; all analyses of one vector by default.
    """

    context: RunContext
    methods: tuple[Any, ...]
    learned: Learned
    analyses: tuple[str, ...] = ()


def learn_works(question: Question) -> list[Work]:
    """Of `learn`: the trunks, the steps, the checks, and the choice among layers."""
    return _made(question.context, question.learned)


def extract_works(question: Question) -> list[Work]:
    """Of `extract`: states read, and the choice among layers and strengths."""
    return _made(question.context, question.methods[0])


def evaluate_works(question: Question) -> list[Work]:
    """Of `evaluate`: the test split without a vector and with it, at the middle layer."""
    middle = question.context.model.n_layers // 2
    return Plan(joins=(-1, middle)).tested(question.context)


def compare_works(question: Question) -> list[Work]:
    """Of `compare`: each method found, chosen on validation, tested; then a random vector."""
    context = question.context
    works = []
    for config in question.methods:
        plan = plan_of(context, config)
        works += [*plan.found, *plan.chosen(context), *plan.tested(context)]
    has_vector = any(METHODS[config.kind].gives_vector for config in question.methods)
    return [*works, *CONTROLS["random"].works(context, question.learned)] if has_vector else works


def explain_works(question: Question) -> list[Work]:
    """Of `explain`: a vector at the first of the layers that were given, else the middle one.

    Another task's vector is learned as a control where an analysis compares with one.
    """
    context, given = question.context, question.learned
    layer = given.layers[0] if given.layers else context.model.n_layers // 2
    sizes = Sizes(context=context, layers=(EMBED if layer == "embed" else layer,))
    alone = [name for name, one in ANALYSES.items() if one.needs == "vector"]
    names = question.analyses or alone
    works = [work for name in names for work in ANALYSES.find(name).cost(sizes)]
    other = given.model_copy(update={"layers": (layer,), "each_layer": False})
    return [*plan_of(context, other).found, *works]


WORKS: dict[str, Callable[[Question], list[Work]]] = {
    "compare": compare_works,
    "learn": learn_works,
    "extract": extract_works,
    "evaluate": evaluate_works,
    "explain": explain_works,
}
"""By what can be estimated."""


def _made(context: RunContext, config: Any) -> list[Work]:
    """What making one vector runs: its candidates, and a choice where there are several."""
    return plan_of(context, config).made(context)
