"""`taskvectors learn`: one vector by gradient descent, saved."""

from dataclasses import dataclass
from typing import Annotated, Any

from taskvectors.cli.arguments import (
    ModelChoice,
    Output,
    SiteChoice,
    TaskChoice,
    TrainingChoice,
    default,
    method_config,
)
from taskvectors.cli.results import Result
from taskvectors.cli.vectors import make_vector


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Train one vector for a task, the model frozen, and save it.

    Without --layers one is trained at every layer, all in one pass, and the best on the validation
    split is saved.
    """

    shots: int = 8
    """Demonstrations of the few-shot run, from which --distillation learns."""
    seed: int = 0
    """Seed of split, demonstrations and initialisation."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the vector; a vector that is there is replaced."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    task: TaskChoice
    sites: SiteChoice
    training: TrainingChoice
    model: ModelChoice
    output: Output

    def run(self) -> Result:
        """Train it and save it."""
        fields = dict(method_config("learned", self.sites, self.training))
        del fields["kind"]

        def make(model: Any, task: Any, context: dict[str, Any]) -> Any:
            from taskvectors.methods import learn

            return learn(model, task, **fields, **context)

        return make_vector(
            make,
            "learned",
            model=self.model,
            task=self.task,
            shots=self.shots,
            seed=self.seed,
            out=self.out,
            dry_run=self.dry_run,
        )
