"""Making one vector and saving it: what `learn` and `extract` have in common."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.arguments import ModelChoice, TaskChoice
from taskvectors.cli.folders import check_room_for_vector, folder_for
from taskvectors.cli.hints import hint
from taskvectors.cli.results import Result

if TYPE_CHECKING:
    from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


def make_vector(
    make: Callable[[], Any],
    *,
    model: ModelChoice,
    task: TaskChoice,
    shots: int,
    seed: int,
    out: str,
) -> Result:
    """Find a method's vector and save it.

    Args:
        make: Gives the method's config; of its vectors the best on validation is saved.
        model: The model.
        task: The task.
        shots: Demonstrations in a few-shot prompt.
        seed: Seed of split, demonstrations and initialisation.
        out: Folder of the vector.
    """
    loading = model.config()
    from taskvectors.methods import METHODS, RunContext
    from taskvectors.methods.shared.choosing import best_candidate

    config = make()
    name = config.kind
    folder = folder_for(out, "vectors", name, task.task, model.model)
    check_room_for_vector(folder)
    pairs = task.load(seed)
    logger.info("Loading the model %r", model.model)
    loaded = loading.load()
    context = RunContext(
        model=loaded,
        task=pairs,
        template=task.template or "",
        shots=shots,
        seed=seed,
        memory=model.budget(loaded),
        chat=task.chat,
    )
    logger.info("%s on %d training pairs of %s", name, len(pairs.train), pairs.name)
    started = time.perf_counter()
    best = best_candidate(context, METHODS[name].find(context, config))
    assert best.vector is not None
    vector = best.vector if best.strength == 1 else best.vector * best.strength
    vector.save(folder)
    seconds = time.perf_counter() - started
    return _saved(vector, folder, seconds=seconds, n_train=len(pairs.train), model=model)


def _saved(
    vector: "TaskVector", folder: Path, *, seconds: float, n_train: int, model: ModelChoice
) -> Result:
    from taskvectors.format import after_layers, at_positions
    from taskvectors.methods.shared.run_context import layer_name

    layers = [layer_name(layer) for layer in vector.layers]
    origin = vector.origin
    data = {
        "vector": str(folder),
        "method": origin.method,
        "model": origin.model,
        "task": origin.task,
        "template": origin.template,
        "seed": origin.seed,
        "layers": layers,
        "positions": list(vector.positions),
        "parameters": vector.values.numel(),
        "norm": vector.norm(),
        "validation_accuracy": origin.scores.get("validation_accuracy"),
        "n_train": n_train,
        "seconds": seconds,
    }
    validated = data["validation_accuracy"]
    reached = "" if validated is None else f"; accuracy on validation {100 * validated:.1f} %"
    place = f"{after_layers(layers)}, {at_positions(vector.positions)}"
    return Result(
        data=data,
        shown=[
            f"The {origin.method} vector of {origin.task}, added {place}{reached}",
            f"It is in {folder}",
            f"To measure it: {hint('evaluate', model, vector=folder)}",
        ],
    )
