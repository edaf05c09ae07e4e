"""`taskvectors explain`: how a model uses a vector, as tables, figures and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from taskvectors.cli.arguments import Output, VectorModelChoice, VectorTaskChoice, checked, default
from taskvectors.cli.dry_run import would_run
from taskvectors.cli.folders import folder_for, same_folder
from taskvectors.cli.names import AnalysisName
from taskvectors.cli.reports import written_report
from taskvectors.cli.results import Result, Table, duration
from taskvectors.cli.typed import command_line
from taskvectors.cli.unused import given, refuse
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments import ExplainConfig, ModelConfig
    from taskvectors.results import Record


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Say how a model uses a vector: through which heads, along which paths, where they look.

    The model runs in float32 unless --dtype says otherwise, since effects are to add up. The run is
    kept in a folder; the same command on the same folder goes on where it stopped.
    """

    vector: Annotated[str, default("the first of --vectors")] = ""
    """Folder of the vector that is explained."""
    vectors: tuple[str, ...] = ()
    """Folders of further vectors, which it is compared with."""
    analyses: Annotated[tuple[AnalysisName, ...], default("all that the vectors allow")] = ()
    """What is analysed."""
    other_vector: str = "learn"
    """Folder of another task's vector, to see whether heads are the vector's own; `learn` learns
    one at the same sites, `none` leaves it out."""
    limit: int = 100
    """Most prompts of a split that an analysis uses."""
    shots: int = 8
    """Demonstrations in few-shot prompts."""
    figures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], default("none")] = ()
    """Write every figure as a file, too, in these forms."""
    out: Annotated[str, default("a new folder among the user's data")] = ""
    """Folder of the run."""
    dry_run: bool = False
    """Check what can be checked without the model, say what would be run, and stop."""
    no_report: bool = False
    """Write no HTML report."""
    task: VectorTaskChoice
    model: VectorModelChoice
    output: Output

    def run(self) -> Result:
        """Run the analyses, and write the report."""
        paths = self.paths()
        if not paths:
            raise TaskVectorsError(
                "--vector: give the folder of a vector; taskvectors learn makes one"
            )
        from taskvectors.vectors import TaskVector, task_of

        config = self.config(paths, self.model.config_for(TaskVector.load(paths[0])))
        from taskvectors.experiments import check_any_ran, explain

        words = ("explain", Path(paths[0]).name, config.model.source)
        folder = folder_for(self.out, "runs", *words)
        if self.dry_run:
            vectors = [TaskVector.load(path) for path in paths]
            return would_run(
                "explain",
                folder,
                task=task_of(vectors[0].origin, config.task, **config.changes),
                model=config.model.source,
                vectors=[vector.origin.label for vector in vectors],
                analyses=config.names,
            )
        return self._shown(check_any_ran(explain(config, folder, command=command_line())))

    def paths(self) -> tuple[str, ...]:
        """The folders of all vectors, the one that is explained first."""
        paths = tuple(filter(None, (self.vector, *self.vectors)))
        if twice := same_folder(paths):
            whose = "is the --vector, too" if self.vector else "is given twice"
            raise TaskVectorsError(f"--vectors: {twice} {whose}; name further ones")
        return paths

    def config(self, paths: tuple[str, ...], model: "ModelConfig") -> "ExplainConfig":
        """The same for the library."""
        from taskvectors.experiments import ExplainConfig
        from taskvectors.explain import ANALYSES

        looks = not self.analyses or any(ANALYSES[name].needs_other for name in self.analyses)
        if not looks and self.other_vector != "none":
            refuse(given(self, "other_vector"), "no analysis of --analyses looks at another vector")
        if self.analyses and not any(ANALYSES[name].reads_shots for name in self.analyses):
            refuse(given(self, "shots"), "no analysis of --analyses runs few-shot prompts")
        exact = {"dtype": "float32"} if model.dtype == "auto" else {}
        return checked(
            ExplainConfig,
            vectors=paths,
            analyses=self.analyses,
            other_vector=None if self.other_vector == "none" else self.other_vector,
            model=model.model_copy(update=exact),
            task=self.task.task,
            template=self.task.template,
            shots=self.shots,
            changes=self.task.changes(),
            allow_overlap=self.task.allow_overlap,
            limit=self.limit,
            memory=self.model.memory,
            chat=self.task.chat,
        )

    def _shown(self, record: "Record") -> Result:
        from taskvectors.report import write_figures
        from taskvectors.results import analysis_tables
        from taskvectors.results.record import rows_of

        about = record.metadata
        findings = [
            {
                "analysis": one["name"],
                "finding": None if one["error"] else one["summary"],
                "error": one["error"],
            }
            for one in about["analyses"]
        ]
        written = write_figures(record, self.figures) if self.figures else []
        report = None if self.no_report else written_report(record)
        kept = ("vector", "method", "model", "family", "dtype", "task", "template", "seed",
                "layers", "positions", "seconds")  # fmt: skip
        tables = analysis_tables(record.frame, about["analyses"])
        data = {name: about[name] for name in kept} | {
            "folder": str(record.folder),
            "report": None if report is None else str(report),
            "figures": [str(path) for path in written],
            "findings": findings,
            "rows": [
                {"analysis": name} | row for name, table in tables.items() for row in rows_of(table)
            ],
        }
        shown: list[str | Table] = [_table(findings, about["analyses"])]
        where = f"The run is in {record.folder}" if report is None else f"The report is {report}"
        return Result(data=data, shown=[*shown, where])


def _table(findings: Sequence[Mapping[str, Any]], analyses: Sequence[Mapping[str, Any]]) -> Table:
    seconds = {one["name"]: one["seconds"] for one in analyses}
    return Table(
        headings=("analysis", "what it shows", "time"),
        rows=[
            (
                one["analysis"],
                one["finding"] or f"refused: {one['error']}",
                duration(seconds[one["analysis"]]),
            )
            for one in findings
        ],
        numbers=frozenset({"time"}),
    )
