"""`taskvectors reproduce`: a table or figure of either paper, by name."""

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from taskvectors.cli.arguments import ModelChoice, Output, TrackerChoice, checked, default
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for
from taskvectors.cli.progress import hush_transformers
from taskvectors.cli.reports import page_tables, with_report, written_report
from taskvectors.cli.results import Result, Table
from taskvectors.cli.typed import command_line
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments.reproduce import ReproduceConfig
    from taskvectors.results import Record


@dataclass(frozen=True, kw_only=True)
class PresetsModelChoice(ModelChoice):
    """Which model, in place of the preset's, and how it is loaded."""

    model: Annotated[str, default("the preset's")] = ""
    """`embedded`, `random`, a hub id, a local folder, or a .gguf file."""


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Reproduce a table or figure of either paper on a model of yours.

    The run is kept in a folder: results as one table, figures, what was published. The same command
    on the same folder goes on where it stopped, whatever stopped it.
    """

    experiment: Annotated[Positional[str], default("none; see --list")] = ""
    """Name of an experiment, or `all`."""
    list: bool = False
    """List the experiments, and do nothing else."""
    preset: str = "cpu"
    """How large: `smoke` (random models, seconds), `cpu` (the embedded model), or `paper`."""
    recipe: Literal["from-zero", "paper", "released-code"] = "from-zero"
    """How vectors are learned: ours, or as published, to stand beside the published numbers."""
    models: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: --model)")] = ()
    """Several models, in place of --model."""
    tasks: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: the preset's)")] = ()
    """Tasks, or families of learners' tasks."""
    seeds: Annotated[
        tuple[int, ...], arg(aliases=["--seed"], help_behavior_hint="(default: the preset's)")
    ] = ()
    """Seeds of split, demonstrations and initialisation."""
    n_train: Annotated[int | None, default("the preset's")] = None
    """Training pairs."""
    n_validation: Annotated[int | None, default("the preset's")] = None
    """Validation pairs."""
    n_test: Annotated[int | None, default("the preset's")] = None
    """Test pairs."""
    ray: Annotated[str | None, default("this process")] = None
    """Address of a Ray cluster that runs the groups, such as auto."""
    gpus: int = 1
    """GPUs that a group takes on the cluster, where it has any."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    no_report: bool = False
    """Write no HTML report."""
    model: PresetsModelChoice
    tracking: TrackerChoice
    output: Output

    def run(self) -> Result:
        """Run it, and show its table."""
        hush_transformers(self.model.model or "embedded")
        if self.list:
            self._check_list()
            return _listed()
        config = self.config()
        from taskvectors.experiments.reproduce import groups_of, reproduce

        words = ("reproduce", self.experiment, self.preset)
        folder = folder_for(self.out, "runs", *words)
        if self.dry_run:
            counts = [f"{len(keys)} of {name}" for name, keys in groups_of(config).items()]
            return would_run("reproduce", folder, preset=config.preset, groups=counts)
        found = reproduce(config, folder, command=command_line(), tracker=self.tracking.tracker)
        if len(found) == 1:
            return _shown(found[0], written=not self.no_report)
        reports = [None if self.no_report else written_report(one) for one in found]
        return _all_shown(found, reports, folder)

    def _check_list(self) -> None:
        """Refuse what a list of the experiments does not read."""
        own = [
            one.name for one in fields(self) if one.default is not MISSING and one.name != "list"
        ]
        names = [*given(self, *own), *given(self.model), *given(self.tracking)]
        if "experiment" in names:
            raise TaskVectorsError(f"give --list or {self.experiment}, not both")
        refuse(names, "--list lists the experiments, and does nothing else")

    def config(self) -> "ReproduceConfig":
        """The same for the library."""
        if not self.experiment:
            raise TaskVectorsError(
                "give the name of an experiment, or all; taskvectors reproduce --list has the names"
            )
        if self.ray is None:
            refuse(given(self, "gpus"), "without --ray groups are run one by one here")
        if self.models and self.model.model:
            raise TaskVectorsError("give --model or --models, not both")
        from taskvectors.experiments.reproduce import ReproduceConfig

        return checked(
            ReproduceConfig,
            experiment=self.experiment,
            preset=self.preset,
            recipe=self.recipe,
            models=self.models or tuple(filter(None, (self.model.model,))),
            loading=replace(self.model, model="embedded").config(),
            tasks=self.tasks,
            seeds=self.seeds,
            n_train=self.n_train,
            n_validation=self.n_validation,
            n_test=self.n_test,
            memory=self.model.memory,
            ray=self.ray,
            gpus=self.gpus,
        )


def _listed() -> Result:
    from taskvectors.experiments.experiment import EXPERIMENTS, PRESETS

    rows: Sequence[dict[str, Any]] = [
        {
            "name": one.name,
            "title": one.title,
            "question": one.question,
            "paper": one.paper,
            "what_the_paper_did": one.what_the_paper_did,
            "what_we_do_otherwise": one.what_we_do_otherwise,
            "presets": {
                name: {
                    "models": [model.source for model in one.presets[name].models],
                    "tasks": [*one.presets[name].tasks],
                    "seeds": [*one.presets[name].seeds],
                    "groups": len(one.units(one.name, one.presets[name])),
                }
                for name in PRESETS
            },
        }
        for one in EXPERIMENTS.values()
    ]
    table = Table(
        headings=("experiment", "question", "tasks (cpu)", "groups"),
        rows=[
            (
                row["name"],
                row["question"],
                " ".join(row["presets"]["cpu"]["tasks"]),
                str(row["presets"]["cpu"]["groups"]),
            )
            for row in rows
        ],
        numbers=frozenset({"groups"}),
    )
    return Result(data={"rows": rows}, shown=[table])


def _shown(record: "Record", *, written: bool) -> Result:
    from taskvectors.report import page_of
    from taskvectors.results.record import rows_of

    about = record.metadata
    data = {
        name: about[name]
        for name in (
            "experiment", "title", "question", "paper", "what_the_paper_did",
            "what_we_do_otherwise", "models", "tasks", "seeds", "preset", "groups",
            "groups_failed", "seconds",
        )
    }  # fmt: skip
    data |= {
        "warnings": list(record.warnings),
        "published": [asdict(one) for one in record.published],
        "rows": rows_of(record.frame),
    }
    shown: list[str | Table] = [
        about["question"],
        f"The paper: {about['what_the_paper_did']}",
        f"Here: {about['what_we_do_otherwise']}",
        *page_tables(page_of(record)),
    ]
    return with_report(record, data, shown, written=written)


def _all_shown(found: "Sequence[Record]", reports: Sequence[Path | None], folder: Path) -> Result:
    kept = ("experiment", "title", "groups", "groups_failed", "seconds")
    rows = [
        {name: one.metadata[name] for name in kept}
        | {"warnings": list(one.warnings)}
        | {"folder": str(one.folder), "report": None if report is None else str(report)}
        for one, report in zip(found, reports, strict=True)
    ]
    table = Table(
        headings=("experiment", "title", "groups", "failed", "time"),
        rows=[
            (
                row["experiment"],
                row["title"],
                str(row["groups"]),
                str(row["groups_failed"]),
                f"{row['seconds']:.0f} s",
            )
            for row in rows
        ],
        numbers=frozenset({"groups", "failed", "time"}),
    )
    return Result(
        data={"folder": str(folder), "rows": rows},
        shown=[table, f"The runs and their reports are in {folder}"],
    )
