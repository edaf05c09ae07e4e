"""`taskvectors report`: the report of a run that was made before, or of several side by side."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from taskvectors.cli.arguments import Output, default
from taskvectors.cli.folders import same_folder
from taskvectors.cli.results import Result
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.results import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the HTML report of a finished run into its folder, and its figures as PNG and SVG.

    Several folders make one page that shows their runs side by side.
    """

    folders: Positional[tuple[str, ...]]
    """Folder of a run; several to compare."""
    markdown: bool = False
    """Write the tables as Markdown, too."""
    latex: bool = False
    """Write the tables as LaTeX, too."""
    out: Annotated[str, default("in the folder of the first run")] = ""
    """File of the page that shows several runs."""
    open: bool = False
    """Open the page in the browser."""
    output: Output

    def run(self) -> Result:
        """Write it."""
        result = self._written()
        if self.open:
            import webbrowser

            page = Path(str(result.data["report"])).absolute()
            if not webbrowser.open(page.as_uri()):
                logger.warning("no browser could be started; open %s yourself", page)
        return result

    def _written(self) -> Result:
        from taskvectors.report import write_side_by_side
        from taskvectors.results import read_run

        folders = [Path(folder).expanduser() for folder in self.folders]
        if not folders:
            raise TaskVectorsError(
                "give the folder of a run; `taskvectors compare` says where its is"
            )
        if twice := same_folder(self.folders):
            raise TaskVectorsError(f"{twice} is given twice; name further runs")
        if len(folders) == 1:
            if self.out:
                raise TaskVectorsError("--out: one run's report lies in its folder; leave it out")
            return self._of_one(folders[0])
        if self.markdown or self.latex:
            raise TaskVectorsError(
                "--markdown and --latex write the tables of one run; name its folder alone"
            )
        path = write_side_by_side(
            [read_run(folder) for folder in folders],
            Path(self.out).expanduser() if self.out else None,
        )
        return Result(
            data={"folders": [str(folder) for folder in folders], "report": str(path)},
            shown=[f"The runs are side by side in {path}"],
        )

    def _of_one(self, folder: Path) -> Result:
        from taskvectors.report import write_latex, write_markdown, write_report
        from taskvectors.results import read_run

        run = read_run(folder)
        path = write_report(run)
        figures = _figures(run)
        tables = {
            "markdown": write_markdown(run) if self.markdown else None,
            "latex": write_latex(run) if self.latex else None,
        }
        shown = [f"The report is {path}"]
        if figures:
            shown.append(f"{len(figures)} files of figures are in {figures[0].parent}")
        shown += [f"Its tables are in {table}" for table in tables.values() if table is not None]
        return Result(
            data={
                "folder": str(folder),
                "report": str(path),
                "figures": [str(figure) for figure in figures],
            }
            | {name: None if table is None else str(table) for name, table in tables.items()},
            shown=shown,
        )


def _figures(run: "Record") -> Sequence[Path]:
    """Figures as files; a warning where what draws them is not installed."""
    from taskvectors.report import write_figures

    try:
        return write_figures(run, ("png", "svg"))
    except TaskVectorsError as error:
        logger.warning("no figures were written: %s", error)
        return ()
