"""`taskvectors learn`: one vector by gradient descent, saved."""

from dataclasses import dataclass
from typing import Any

from taskvectors.cli.arguments import TrackerChoice, TrainingChoice, method_config
from taskvectors.cli.results import Result
from taskvectors.cli.unused import given, refuse
from taskvectors.cli.vectors import VectorVerb


@dataclass(frozen=True, kw_only=True)
class Learn(VectorVerb):
    """Train one vector for a task, the model frozen, and save it.

    Without --layers one is trained at every layer, all in one pass, and the best on the validation
    split is saved.
    """

    training: TrainingChoice
    tracking: TrackerChoice

    def run(self) -> Result:
        """Train it and save it."""
        fields = dict(self.config())
        del fields["kind"]

        def make(model: Any, task: Any, context: dict[str, Any]) -> Any:
            from taskvectors.methods import learn

            return learn(model, task, **fields, **context)

        return self.made("learned", make, self.tracking.tracker)

    def config(self) -> Any:
        """The method's config."""
        from taskvectors.methods import METHODS

        config = method_config("learned", self.sites, self.training)
        if not METHODS["learned"].reads_shots(config):
            refuse(given(self, "shots"), "without --distillation no few-shot run is learned from")
        return config
