"""`taskvectors reproduce`: a table or figure of either paper, by name."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from taskvectors.cli.arguments import ModelChoice, Output, checked, default
from taskvectors.cli.folders import folder_for
from taskvectors.cli.progress import hush_transformers
from taskvectors.cli.reports import written_report
from taskvectors.cli.results import Result, Table
from taskvectors.cli.typed import command_line
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments.reproduce import Reproduction
    from taskvectors.report.old.grid import Grid

_MOST_ROWS = 60
"""Of a table for people; the results have all."""


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
    preset: Literal["smoke", "cpu", "paper"] = "cpu"
    """How large: random models, seconds; the embedded model, two cores; or the paper's sizes."""
    models: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: --model)")] = ()
    """Several models, in place of --model."""
    tasks: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: the preset's)")] = ()
    """Tasks, or families of learners' tasks."""
    seeds: Annotated[
        tuple[int, ...], arg(aliases=["--seed"], help_behavior_hint="(default: the preset's)")
    ] = ()
    """Seeds of split, demonstrations and initialisation."""
    ray: Annotated[str | None, default("this process")] = None
    """Address of a Ray cluster that runs the groups, such as auto."""
    gpus: int = 1
    """GPUs that a group takes on the cluster, where it has any."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    no_report: bool = False
    """Write no HTML report."""
    model: PresetsModelChoice
    output: Output

    def run(self) -> Result:
        """Run it, and show its table."""
        hush_transformers(self.model.model or "embedded")
        if self.list:
            return _listed()
        if not self.experiment:
            raise TaskVectorsError(
                "give the name of an experiment, or all; taskvectors reproduce --list has the names"
            )
        from taskvectors.experiments.reproduce import ReproduceConfig, reproduce

        names = self.models or tuple(filter(None, (self.model.model,)))
        config = checked(
            ReproduceConfig,
            experiment=self.experiment,
            preset=self.preset,
            models=names,
            loading=replace(self.model, model="embedded").config(),
            tasks=self.tasks,
            seeds=self.seeds,
            memory=self.model.memory,
            ray=self.ray,
            gpus=self.gpus,
        )
        folder = folder_for(self.out, "runs", "reproduce", self.experiment, self.preset)
        found = reproduce(config, folder, command=command_line())
        reports = [None if self.no_report else written_report(one.folder) for one in found]
        if len(found) == 1:
            return _shown(found[0], reports[0])
        return _all_shown(found, reports, folder)


def _listed() -> Result:
    from taskvectors.experiments.catalog import EXPERIMENTS
    from taskvectors.experiments.experiment import PRESETS

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
                    "models": [model.source for model in one.scales[name].models],
                    "tasks": [*one.scales[name].tasks],
                    "seeds": [*one.scales[name].seeds],
                    "groups": len(one.groups(one.name, one.scales[name])),
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


def _shown(found: "Reproduction", report: Path | None) -> Result:
    import pandas as pd

    from taskvectors.report.old import read_experiment
    from taskvectors.report.old.experiment_tables import grids_of_experiment

    results = pd.read_parquet(found.folder / "results.parquet")
    records = results.astype(object).where(results.notna(), None).to_dict("records")
    data = {
        name: found.summary[name]
        for name in (
            "experiment", "title", "question", "paper", "what_the_paper_did",
            "what_we_do_otherwise", "models", "tasks", "seeds", "preset", "groups",
            "groups_failed", "warnings", "seconds",
        )
    }  # fmt: skip
    data |= {
        "folder": str(found.folder),
        "report": None if report is None else str(report),
        "published": [asdict(one) for one in found.experiment.published],
        "rows": records,
    }
    shown: list[str | Table] = [
        found.experiment.question,
        f"The paper: {found.experiment.what_the_paper_did}",
        f"Here: {found.experiment.what_we_do_otherwise}",
        *_tables(grids_of_experiment(read_experiment(found.folder))),
    ]
    where = f"The run is in {found.folder}" if report is None else f"The report is {report}"
    return Result(data=data, shown=[*shown, where])


def _tables(grids: "Sequence[Grid]") -> Iterator[str | Table]:
    """The tables of the report, as far as they are no longer than a few screens."""
    from taskvectors.report.old.grid import plain_texts

    left = _MOST_ROWS
    for number, grid in enumerate(grids):
        if len(grid.cells) > left and number:
            yield f"{len(grids) - number} more tables are in the report."
            return
        headings, rows = plain_texts(grid)
        yield f"\n{grid.title}"
        yield from grid.before
        yield Table(
            headings=tuple(headings),
            rows=rows[:left],
            numbers=frozenset(column.name for column in grid.columns if column.is_number),
        )
        if len(rows) > left:
            yield f"{len(rows) - left} more rows are in results.parquet."
        left -= min(len(rows), left)
        yield from grid.after


def _all_shown(
    found: "Sequence[Reproduction]", reports: Sequence[Path | None], folder: Path
) -> Result:
    kept = ("experiment", "title", "groups", "groups_failed", "warnings", "seconds")
    rows = [
        {name: one.summary[name] for name in kept}
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
