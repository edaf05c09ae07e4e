"""Making one vector and saving it: what `learn` and `extract` have in common."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from taskvectors.cli.arguments import ModelChoice, Output, SiteChoice, TaskChoice, default
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for, room_for_vector
from taskvectors.cli.hints import hint
from taskvectors.cli.results import Result

if TYPE_CHECKING:
    from taskvectors.learners.tracking import TrackerName
    from taskvectors.models import LanguageModel
    from taskvectors.tasks import Task
    from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VectorVerb:
    """What `learn` and `extract` have in common."""

    shots: int = 8
    """Demonstrations of the few-shot run, which it is read from, or --distillation learns from."""
    seed: int = 0
    """Seed of split, demonstrations and initialisation."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the vector; a vector that is there is replaced."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    task: TaskChoice
    sites: SiteChoice
    model: ModelChoice
    output: Output

    def context(self) -> dict[str, Any]:
        """Fields of a run context."""
        return {
            "template": self.task.template or "",
            "shots": self.shots,
            "seed": self.seed,
            "chat": self.task.chat,
        }

    def made(
        self,
        method: str,
        make: "Callable[[LanguageModel, Task, dict[str, Any]], TaskVector]",
        tracker: "TrackerName | None" = None,
    ) -> Result:
        """Make a vector and save it.

        Args:
            method: The method's name.
            make: Makes it from model, task and further fields of a run context.
            tracker: An experiment tracker to tell the curves of training, too.
        """
        from pandas import DataFrame

        from taskvectors.learners.tracking import check_tracker, track_curves
        from taskvectors.methods.shared.curves import noted_curves

        if tracker is not None:
            check_tracker(tracker)
        loading = self.model.config()
        folder = folder_for(self.out, "vectors", method, self.task.task, self.model.model)
        with room_for_vector(folder):
            pairs = self.task.load(self.seed)
            if self.dry_run:
                about = {"method": method, "model": loading.source, "seed": self.seed}
                verb = "learn" if method == "learned" else "extract"
                return would_run(verb, folder, task=pairs, **about)
            logger.info("Loading the model %r", self.model.model)
            loaded = loading.load()
            logger.info("%s on %d training pairs of %s", method, len(pairs.train), pairs.name)
            started = time.perf_counter()
            with noted_curves() as curves:
                vector = make(loaded, pairs, self.context() | {"memory": self.model.budget(loaded)})
            vector.save(folder)
            if tracker is not None:
                track_curves(tracker, folder, DataFrame(curves))
        seconds = time.perf_counter() - started
        return _saved(vector, folder, seconds=seconds, n_train=len(pairs.train), model=self.model)


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
