"""`taskvectors extract`: one vector read off the model's states, saved."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import ModelChoice, Output, SiteChoice, TaskChoice, checked, default
from taskvectors.cli.results import Result
from taskvectors.cli.vectors import make_vector


@dataclass(frozen=True, kw_only=True)
class Extract:
    """Read one vector off the model's states, without gradients, and save it.

    Layer and strength are the best on the validation split; a strength is multiplied in.
    """

    method: Literal["vanilla"] = "vanilla"
    """How it is read; see `taskvectors methods`."""
    shots: int = 8
    """Demonstrations in the prompts that it is read from."""
    strengths: Annotated[
        tuple[float, ...],
        arg(aliases=["--strength"], help_behavior_hint="(default: those of the method)"),
    ] = ()
    """Factors to try."""
    seed: int = 0
    """Seed of split and demonstrations."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the vector; a vector that is there is replaced."""
    task: TaskChoice
    sites: SiteChoice
    model: ModelChoice
    output: Output

    def run(self) -> Result:
        """Read it and save it."""
        return make_vector(
            self._config,
            model=self.model,
            task=self.task,
            shots=self.shots,
            seed=self.seed,
            out=self.out,
        )

    def _config(self) -> Any:
        from taskvectors.methods import METHODS

        about = {"strengths": self.strengths} if self.strengths else {}
        return checked(METHODS[self.method].config, **self.sites.config(), **about)
