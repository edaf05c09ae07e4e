"""`taskvectors compare`: methods side by side on one task."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from taskvectors.cli.arguments import (
    ModelChoice,
    Output,
    SiteChoice,
    TaskChoice,
    TrackerChoice,
    TrainingChoice,
    checked,
    default,
    method_config,
)
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for
from taskvectors.cli.names import ControlName, MethodName
from taskvectors.cli.reports import shown_comparison
from taskvectors.cli.results import Result
from taskvectors.cli.typed import command_line
from taskvectors.cli.unused import given, reads, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments import CompareConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Zero-shot, few-shot and any methods side by side, by layer, on one task.

    Layers and strengths are chosen on the validation split, each choice is tested once. The run is
    kept in a folder; the same command on the same folder goes on where it stopped.
    """

    methods: tuple[MethodName, ...] = tuple(
        map(MethodName, ("zero-shot", "icl", "vanilla", "learned"))
    )
    """What is compared."""
    controls: Annotated[
        tuple[ControlName, ...] | None,
        default("majority random, the latter where a vector is compared"),
    ] = None
    """Baselines that must score lower than a vector."""
    configurations: Literal["own", "paper"] = "own"
    """Where vectors go: as --layers and --positions say, or the six ways of the paper's table."""
    by_examples: bool = False
    """Also run each method on 4, 8, 16, ... of the training pairs."""
    shots: int = 8
    """Demonstrations in a few-shot prompt."""
    seeds: Annotated[tuple[int, ...], arg(aliases=["--seed"])] = (0,)
    """Seeds of split, demonstrations and initialisation."""
    strengths: Annotated[
        tuple[float, ...],
        arg(aliases=["--strength"], help_behavior_hint="(default: those of the method)"),
    ] = ()
    """Factors that extracted vectors are tried with."""
    library: Annotated[str, default("none")] = ""
    """Folder of saved vectors that the method library retrieves from."""
    end_of_answer: bool = False
    """Count an answer as right only if the next token ends it: a new line, or the end of text."""
    test_dtype: Literal["same", "float32"] = "same"
    """Type to score the test split in; figures that are published are in float32."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    no_report: bool = False
    """Write no HTML report."""
    task: TaskChoice
    sites: SiteChoice
    training: TrainingChoice
    model: ModelChoice
    tracking: TrackerChoice
    output: Output

    def run(self) -> Result:
        """Compare, and write the report."""
        config = self.config()
        from taskvectors.experiments import compare

        words = ("compare", self.task.task, self.model.model)
        folder = folder_for(self.out, "runs", *words)
        if self.dry_run:
            return would_run(
                "compare",
                folder,
                task=config.load_task(config.seeds[0]),
                model=config.model.source,
                methods=self.methods,
                controls=config.controls,
                seeds=config.seeds,
            )
        found = compare(config, folder, command=command_line(), tracker=self.tracking.tracker)
        return shown_comparison(found, written=not self.no_report)

    def config(self) -> "CompareConfig":
        """The same for the library."""
        if not self.methods:
            raise TaskVectorsError("--methods: give at least one; see taskvectors methods")
        self._check_read()
        methods = tuple(map(self._config, self.methods))
        self._check_shown(methods)
        model = self.model.config()
        from taskvectors.experiments import CompareConfig

        return checked(
            CompareConfig,
            model=model,
            task=self.task.task,
            template=self.task.template,
            shots=self.shots,
            n_train=self.task.n_train,
            n_validation=self.task.n_validation,
            n_test=self.task.n_test,
            **self.task.reading(),
            seeds=self.seeds,
            configurations=self.configurations,
            by_examples=self.by_examples,
            methods=methods,
            controls=self._controls() if self.controls is None else self.controls,
            end_of_answer=self.end_of_answer,
            test_dtype=self.test_dtype,
            memory=self.model.memory,
            chat=self.task.chat,
        )

    def _controls(self) -> tuple[str, ...]:
        from taskvectors.methods import METHODS

        has_vector = any(METHODS[name].gives_vector for name in self.methods)
        return ("majority", "random") if has_vector else ("majority",)

    def _check_read(self) -> None:
        """Refuse options that no method reads, and name those that a method does not."""
        from taskvectors.methods import METHODS
        from taskvectors.methods.controls import CONTROLS

        placed = given(self.sites, "layers", "positions") + given(self, "strengths")
        further = given(self.sites, "each_layer") + given(self.training)
        further += given(self, "library") + given(self.tracking)
        for name in (*placed, *further):
            own, recipe = self.configurations == "own", self.training.recipe
            unread = [m for m in self.methods if not reads(m, name, recipe, own_places=own)]
            if len(unread) == len(self.methods):
                refuse([name], f"no method of --methods ({', '.join(self.methods)}) reads it")
            for method in unread if name in placed and own else ():
                if not METHODS[method].is_baseline:
                    logger.warning("--%s says nothing to %s, which has no choice of it",
                                   name, method)  # fmt: skip
        if all(METHODS[name].is_baseline for name in self.methods):
            refuse(given(self, "configurations"), "no method of --methods gives a vector")
        if not any(METHODS[name].gives_vector for name in self.methods):
            for name in self.controls or ():
                if CONTROLS[name].needs_vector:
                    raise TaskVectorsError(
                        f"--controls: {name} is made for a vector, and no method of --methods "
                        "gives one; add vanilla or learned, or leave the control out"
                    )
        if {*self.methods} == {"zero-shot"}:
            refuse(given(self, "by_examples"), "zero-shot learns from no pairs")

    def _check_shown(self, methods: Sequence[Any]) -> None:
        """Refuse a number of demonstrations that nothing shows."""
        from taskvectors.methods import METHODS
        from taskvectors.methods.controls import CONTROLS

        shown = [METHODS[one.kind].reads_shots(one) for one in methods]
        shown += [CONTROLS[name].reads_shots for name in self.controls or ()]
        if not any(shown) and self.configurations == "own":
            names = ", ".join(self.methods)
            refuse(given(self, "shots"), f"no method of --methods ({names}) reads few-shot prompts")

    def _config(self, name: str) -> Any:
        return method_config(
            name, self.sites, self.training, strengths=self.strengths, library=self.library
        )
