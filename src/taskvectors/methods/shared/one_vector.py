"""`learn` and `extract`: one vector in one call, in Python and on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.learned import Learned
from taskvectors.methods.shared.choosing import best_candidate
from taskvectors.methods.shared.curves import tried
from taskvectors.methods.shared.layers import LayerName
from taskvectors.methods.shared.method import METHODS, checked
from taskvectors.methods.shared.possible import check_possible
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training.recipe import Recipe, load_recipe
from taskvectors.models import LanguageModel, as_model
from taskvectors.tasks import as_task
from taskvectors.trunk import Position
from taskvectors.vectors import TaskVector


def learn(  # noqa: PLR0913  (sites, data and settings)
    model: LanguageModel | str | Path,
    task: Any,
    *,
    layers: LayerName | str | Sequence[LayerName | str] | None = None,
    each_layer: bool = False,
    positions: Position | Sequence[Position] = -1,
    train_shots: int = 0,
    n_examples: int | None = None,
    recipe: str | Path | Recipe = "ours",
    **context: Any,
) -> TaskVector:
    """Train one vector for a task, the model frozen.

    Args:
        model: What `load_model` returns, or a name or path that it takes.
        task: A task, or what `load_task` takes; trained on its training split, checked on its
            validation split.
        layers: A layer, or several of one vector, trained together; "4-9" is a range. By default
            one is trained at every layer and the best on validation is returned.
        each_layer: Train one vector at each of `layers` and return the best on validation.
        positions: A token position, or several, each with its own part of the vector.
        train_shots: Demonstrations in the prompts it is trained and used on.
        n_examples: Training pairs to use; all by default.
        recipe: How it is trained: `ours`, `from-zero`, `paper`, `released-code`, a YAML or JSON
            file of a recipe's fields, or a `Recipe`.
        context: Further fields of `RunContext`: `shots` (demonstrations of the few-shot run, which
            is the teacher where the recipe has distillation), `template`, `seed`, `memory`, `chat`.

    Raises:
        TaskVectorsError: A value is not one that it takes.

    Example:
        vector = tv.learn(model, tv.load_task("capital"), layers=9)
    """
    fields = {
        "layers": layers,
        "each_layer": each_layer,
        "positions": positions,
        "train_shots": train_shots,
        "n_examples": n_examples,
        "recipe": load_recipe(recipe),
    }
    config = checked(Learned, fields)
    return _best(RunContext(model=as_model(model), task=as_task(task), **context), config)


def extract(
    model: LanguageModel | str | Path,
    task: Any,
    method: str | BaseModel = "vanilla",
    *,
    layers: LayerName | str | Sequence[LayerName | str] | None = None,
    positions: Position | Sequence[Position] | None = None,
    **context: Any,
) -> TaskVector:
    """One vector by any method of the registry that gives vectors.

    Args:
        model: What `load_model` returns, or a name or path that it takes.
        task: A task, or what `load_task` takes; demonstrations and queries are from its training
            split.
        method: Name of a method, or its config.
        layers: A layer, or several of one vector, together; "4-9" is a range. By default as the
            method has it, usually the best single one on validation.
        positions: Where it is put; the last token by default.
        context: Further fields of `RunContext`: `shots`, `template`, `seed`, `memory`, `chat`.

    Raises:
        TaskVectorsError: There is no such method, it gives no vector, it leaves no choice of
            layers or positions, or a value is not one that it takes.

    Example:
        vector = tv.extract(model, tv.load_task("capital"), "function-vector", layers=5)
    """
    name = method if isinstance(method, str) else str(getattr(method, "kind", type(method)))
    if name not in METHODS or not METHODS[name].gives_vector:
        known = ", ".join(key for key, one in METHODS.items() if one.gives_vector)
        raise TaskVectorsError(f"no method {name!r} that gives a vector; there are: {known}")
    fields = {} if isinstance(method, str) else method.model_dump()
    places = {"layers": layers, "positions": positions}
    given = {key: value for key, value in places.items() if value is not None}
    for key in given.keys() - METHODS[name].config.model_fields.keys():
        raise TaskVectorsError(f"{name} leaves no choice of {key}; leave {key} out")
    config = checked(METHODS[name].config, fields | given)
    return _best(RunContext(model=as_model(model), task=as_task(task), **context), config)


def _best(context: RunContext, config: Any) -> TaskVector:
    """The best candidate's vector on validation, its strength multiplied in."""
    check_possible(context, config, ("train", "validation"))
    best = best_candidate(context, tried(context, config))
    assert best.vector is not None
    return best.vector if best.strength == 1 else best.vector * best.strength
