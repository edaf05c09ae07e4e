"""`taskvectors report`: the report of a run that was made before."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the HTML report of a finished run into its folder."""

    folder: Positional[str]
    """Folder of a run."""
    output: Output

    def run(self) -> Result:
        """Write it."""
        from taskvectors.report import write_report

        folder = Path(self.folder).expanduser()
        path = write_report(folder)
        return Result(
            data={"folder": str(folder), "report": str(path)}, shown=[f"The report is {path}"]
        )
