"""`taskvectors methods`: how a vector is made, and what it is compared with."""

from dataclasses import dataclass

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result, Table


@dataclass(frozen=True, kw_only=True)
class Methods:
    """The methods and controls of a comparison, one line each, with their source."""

    output: Output

    def run(self) -> Result:
        """List them."""
        from taskvectors.methods import METHODS
        from taskvectors.methods.controls import CONTROLS

        rows = [
            {"name": name, "summary": method.summary, "source": method.source, "is_control": False}
            for name, method in METHODS.items()
        ]
        rows += [
            {"name": name, "summary": control.summary, "source": "control", "is_control": True}
            for name, control in CONTROLS.items()
        ]
        table = Table(
            headings=("method", "what it is", "source"),
            rows=[(str(row["name"]), str(row["summary"]), str(row["source"])) for row in rows],
        )
        return Result(data={"rows": rows}, shown=[table])
