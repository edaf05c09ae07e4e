"""`learn` and `extract`: one vector in one call."""

from collections.abc import Sequence
from typing import Any, Literal

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.choosing import best_candidate
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.recipe import Recipe
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.methods.workbench import LayerName, Workbench
from taskvectors.models import LanguageModel
from taskvectors.tasks import Task
from taskvectors.trunk import Position
from taskvectors.vectors import TaskVector


def learn(  # noqa: PLR0913  (sites, data and settings)
    model: LanguageModel,
    task: Task,
    *,
    layers: Sequence[LayerName] | None = None,
    positions: Sequence[Position] = (-1,),
    shots: int = 0,
    n_examples: int | None = None,
    recipe: Literal["ours", "paper", "released-code"] = "ours",
    settings: Recipe | None = None,
    **bench: Any,
) -> TaskVector:
    """Train one vector for a task, the model frozen.

    Args:
        model: The model.
        task: The task; trained on its training split, checked on its validation split.
        layers: Layers of the vector, trained together; by default one is trained at every layer
            and the best on validation is returned.
        positions: Token positions, each with its own part of the vector.
        shots: Demonstrations in the prompts it is trained on.
        n_examples: Training pairs to use; all by default.
        recipe: Named settings.
        settings: Settings in place of a named recipe.
        bench: Further fields of `Workbench`: `template`, `seed`, `memory`, `chat`.

    Example:
        vector = tv.learn(model, tv.load_task("capital"), layers=[9])
    """
    config = Learned(
        layers=None if layers is None else tuple(layers),
        positions=tuple(positions),
        shots=shots,
        n_examples=n_examples,
        recipe=recipe,
        settings=settings,
    )
    workbench = Workbench(model=model, task=task, **bench)
    return _vector(workbench, learned(workbench, config))


def extract(
    model: LanguageModel,
    task: Task,
    method: str = "vanilla",
    *,
    layers: Sequence[LayerName] | None = None,
    positions: Sequence[Position] = (-1,),
    **bench: Any,
) -> TaskVector:
    """Read one vector off the model's states, without gradients.

    Args:
        model: The model.
        task: The task; demonstrations and queries are from its training split.
        method: Name of an extraction method.
        layers: Layers it is added at, together; the best one on validation by default.
        positions: Where it is added.
        bench: Further fields of `Workbench`: `shots`, `template`, `seed`, `memory`, `chat`.

    Raises:
        TaskVectorsError: There is no such extraction method.
    """
    if method != "vanilla":
        raise TaskVectorsError(f"no extraction method {method!r}; there is: vanilla")
    config = Vanilla(layers=None if layers is None else tuple(layers), positions=tuple(positions))
    workbench = Workbench(model=model, task=task, **bench)
    return _vector(workbench, vanilla(workbench, config))


def _vector(bench: Workbench, candidates: Any) -> TaskVector:
    """The best candidate's vector, at the strength that was chosen."""
    best = best_candidate(bench, candidates)
    assert best.vector is not None
    return best.vector if best.strength == 1 else best.vector * best.strength
