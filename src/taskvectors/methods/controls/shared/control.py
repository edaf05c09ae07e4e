"""A control as a row of the registry, and vectors learned at the chosen vector's sites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.choosing import best_candidate
from taskvectors.methods.shared.curves import tried
from taskvectors.methods.shared.layers import layer_name
from taskvectors.methods.shared.method import plan_of
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.registry import CONTROLS as _CONTROLS
from taskvectors.registry import Registry
from taskvectors.trunk.work import Work
from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True)
class Control:
    """Everything the program knows of a control.

    Attributes:
        name: Its name on the command line.
        make: From a run context, the chosen candidate and how vectors are learned to the control.
        works: From a run context and how vectors are learned to what it runs, test split included.
        title: Its name on pages.
        summary: What it is, in half a line.
        needs_vector: Whether it is made for a vector that a method found.
        reads_shots: Whether it depends on how many demonstrations a few-shot prompt has.
    """

    name: str
    make: Callable[[RunContext, Candidate, Learned], Candidate]
    works: Callable[[RunContext, Learned], Sequence[Work]]
    title: str
    summary: str
    needs_vector: bool = False
    reads_shots: bool = False


CONTROLS: Registry[Control] = _CONTROLS
"""Controls by the name their row carries."""


def vector_of(chosen: Candidate) -> TaskVector:
    """The vector that a control is made for.

    Raises:
        TaskVectorsError: There is none.
    """
    if chosen.vector is None:
        raise TaskVectorsError(
            f"this control is made for a vector, and {chosen.method} has none; add vanilla or "
            "learned to the methods, or leave the control out"
        )
    return chosen.vector


def learned_at_same_sites(context: RunContext, chosen: Candidate, config: Learned) -> Candidate:
    """The best vector learned where the chosen one sits."""
    vector = vector_of(chosen)
    layers = tuple(layer_name(layer) for layer in vector.layers)
    sites = {"layers": layers, "each_layer": False, "positions": vector.positions}
    return best_candidate(context, tried(context, config.model_copy(update=sites)))


def tested_works(context: RunContext, name: str) -> list[Work]:
    """What scoring a vector on the test split takes; it is taken to sit at the middle layer."""
    return Plan(name=name, joins=(context.model.n_layers // 2,)).tested(context)


def learned_works(name: str, context: RunContext, config: Learned) -> list[Work]:
    """What learning a vector at the middle layer and testing it takes."""
    at_middle = config.model_copy(update={"layers": (context.model.n_layers // 2,)})
    return [*plan_of(context, at_middle).found, *tested_works(context, name)]
