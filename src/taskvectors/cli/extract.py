"""`taskvectors extract`: one vector read off the model's states, saved."""

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from taskvectors.cli.arguments import method_config
from taskvectors.cli.names import MethodName
from taskvectors.cli.results import Result
from taskvectors.cli.unused import given, reads, refuse
from taskvectors.cli.vectors import VectorVerb
from taskvectors.errors import TaskVectorsError

_VANILLA = MethodName("vanilla")


@dataclass(frozen=True, kw_only=True)
class Extract(VectorVerb):
    """Make one vector by a method of the registry, and save it; see `learn` for trained ones.

    Layer and strength are the best on the validation split; a strength is multiplied in.
    """

    method: MethodName = _VANILLA
    """How it is made; see `taskvectors methods`."""
    strengths: Annotated[
        tuple[float, ...],
        arg(aliases=["--strength"], help_behavior_hint="(default: those of the method)"),
    ] = ()
    """Factors to try."""

    def run(self) -> Result:
        """Read it and save it."""
        config = self.config()

        def make(model: Any, task: Any, context: dict[str, Any]) -> Any:
            from taskvectors.methods import extract

            return extract(model, task, config, **context)

        return self.made(self.method, make)

    def config(self) -> Any:
        """The method's config."""
        from taskvectors.methods import METHODS

        if not METHODS[self.method].gives_vector:
            known = ", ".join(name for name, method in METHODS.items() if method.gives_vector)
            raise TaskVectorsError(f"--method: {self.method} gives no vector; these do: {known}")
        if self.strengths and not any(self.strengths):
            raise TaskVectorsError("--strengths: 0 alone gives no vector; name other factors")
        for name in (*given(self.sites), *given(self, "strengths")):
            if not reads(self.method, name):
                flag = f"--{name.replace('_', '-')}"
                raise TaskVectorsError(
                    f"{flag}: {self.method} leaves no choice of {name}; leave {flag} out"
                )
        config = method_config(self.method, self.sites, strengths=self.strengths)
        if not METHODS[self.method].reads_shots(config):
            refuse(given(self, "shots"), f"{self.method} reads no few-shot prompt")
        return config
