"""`taskvectors demo`: the main job, on a model that comes with the package."""

import logging
from dataclasses import dataclass
from typing import Annotated

from taskvectors.cli.arguments import ModelChoice, Output, checked, default
from taskvectors.cli.folders import folder_for
from taskvectors.cli.reports import shown_comparison
from taskvectors.cli.results import Result
from taskvectors.cli.typed import command_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Learn a task vector at every layer, compare it with demonstrations, write the report.

    Some minutes on two processor cores; the first time one more, to convert the embedded model.
    """

    task: str = "capital"
    """A built-in task (`taskvectors tasks`), a file of input/output pairs, or hub:OWNER/NAME."""
    model: str = "embedded"
    """`embedded`, a hub id, a local folder, or a .gguf file."""
    steps: int = 40
    """Most steps of learning; all layers are learned together."""
    seed: int = 0
    """Seed of split, demonstrations and initialisation."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    output: Output

    def run(self) -> Result:
        """Compare, and write the report."""
        model = ModelChoice(model=self.model).config()
        from taskvectors.experiments import CompareConfig, compare
        from taskvectors.methods.icl import InContext
        from taskvectors.methods.learned import Learned
        from taskvectors.methods.training.recipe import Recipe
        from taskvectors.methods.vanilla import Vanilla
        from taskvectors.methods.zero_shot import ZeroShot

        learned = Learned(recipe=checked(Recipe, steps=self.steps))
        config = checked(
            CompareConfig,
            model=model,
            task=self.task,
            seeds=(self.seed,),
            methods=(ZeroShot(), InContext(), Vanilla(), learned),
            controls=("majority", "random"),
        )
        folder = folder_for(self.out, "runs", "demo", self.task, self.model)
        logger.info(
            "Task %s: the query alone, 8 demonstrations, a vector extracted from demonstrations, "
            "and one learned at each layer in at most %d steps",
            self.task,
            self.steps,
        )
        found = compare(config, folder, command=command_line())
        return shown_comparison(found)
