"""`learn` and `extract`: one vector in one call."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.shared.choosing import best_candidate
from taskvectors.methods.shared.run_context import LayerName, RunContext
from taskvectors.methods.training.recipe import Recipe
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
    **context: Any,
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
        context: Further fields of `RunContext`: `template`, `seed`, `memory`, `chat`.

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
    run_context = RunContext(model=model, task=task, **context)
    return _vector(run_context, learned(run_context, config))


def extract(
    model: LanguageModel,
    task: Task,
    method: str | BaseModel = "vanilla",
    *,
    layers: Sequence[LayerName] | None = None,
    positions: Sequence[Position] | None = None,
    **context: Any,
) -> TaskVector:
    """One vector by any method of the registry that gives vectors.

    Args:
        model: The model.
        task: The task; demonstrations and queries are from its training split.
        method: Name of a method, or its config.
        layers: Layers of the vector, together; by default as the method has it, usually the best
            single one on validation.
        positions: Where it is put; the last token by default.
        context: Further fields of `RunContext`: `shots`, `template`, `seed`, `memory`, `chat`.

    Raises:
        TaskVectorsError: There is no such method, it gives no vector, or it leaves no choice of
            layers or positions.

    Example:
        vector = tv.extract(model, tv.load_task("capital"), "function-vector", layers=[5])
    """
    from taskvectors.methods import METHODS

    name = method if isinstance(method, str) else str(getattr(method, "kind", type(method)))
    if name not in METHODS or not METHODS[name].gives_vector:
        known = ", ".join(key for key, one in METHODS.items() if one.gives_vector)
        raise TaskVectorsError(f"no method {name!r} that gives a vector; there are: {known}")
    config = METHODS[name].config() if isinstance(method, str) else method
    chosen = {"layers": layers, "positions": positions}
    given = {key: tuple(value) for key, value in chosen.items() if value is not None}
    for key in given.keys() - type(config).model_fields.keys():
        raise TaskVectorsError(f"{name} leaves no choice of {key}; leave {key} out")
    config = type(config).model_validate(config.model_dump() | given)
    run_context = RunContext(model=model, task=task, **context)
    return _vector(run_context, METHODS[name].find(run_context, config))


def _vector(context: RunContext, candidates: Any) -> TaskVector:
    """The best candidate's vector, at the strength that was chosen."""
    best = best_candidate(context, candidates)
    assert best.vector is not None
    return best.vector if best.strength == 1 else best.vector * best.strength
