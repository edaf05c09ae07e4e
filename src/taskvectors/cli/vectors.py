"""Making one vector and saving it: what `learn` and `extract` have in common."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.arguments import ModelChoice, TaskChoice
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for, room_for_vector
from taskvectors.cli.hints import hint
from taskvectors.cli.results import Result

if TYPE_CHECKING:
    from taskvectors.models import LanguageModel
    from taskvectors.tasks import Task
    from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


def make_vector(  # noqa: PLR0913  (what is made, of what, where to)
    make: "Callable[[LanguageModel, Task, dict[str, Any]], TaskVector]",
    method: str,
    *,
    model: ModelChoice,
    task: TaskChoice,
    shots: int,
    seed: int,
    out: str,
    dry_run: bool,
) -> Result:
    """Make a vector and save it.

    Args:
        make: Makes it from model, task and further fields of a run context.
        method: The method's name, for a new folder.
        model: The model.
        task: The task.
        shots: Demonstrations in a few-shot prompt.
        seed: Seed of split, demonstrations and initialisation.
        out: Folder of the vector.
        dry_run: Say what would be made, and make nothing.
    """
    loading = model.config()
    folder = folder_for(out, "vectors", method, task.task, model.model)
    with room_for_vector(folder):
        pairs = task.load(seed)
        if dry_run:
            about = {"method": method, "model": loading.source, "seed": seed}
            verb = "learn" if method == "learned" else "extract"
            return would_run(verb, folder, task=pairs, **about)
        logger.info("Loading the model %r", model.model)
        loaded = loading.load()
        logger.info("%s on %d training pairs of %s", method, len(pairs.train), pairs.name)
        started = time.perf_counter()
        context = {
            "template": task.template or "",
            "shots": shots,
            "seed": seed,
            "memory": model.budget(loaded),
            "chat": task.chat,
        }
        vector = make(loaded, pairs, context)
        vector.save(folder)
    seconds = time.perf_counter() - started
    return _saved(vector, folder, seconds=seconds, n_train=len(pairs.train), model=model)


def _saved(
    vector: "TaskVector", folder: Path, *, seconds: float, n_train: int, model: ModelChoice
) -> Result:
    from taskvectors.format import after_layers, at_positions
    from taskvectors.methods.shared.layers import layer_name

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
