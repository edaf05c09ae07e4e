"""`taskvectors families`: which models can be read and edited."""

from dataclasses import dataclass

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result, Table


@dataclass(frozen=True, kw_only=True)
class Families:
    """The supported model families, one line each."""

    output: Output

    def run(self) -> Result:
        """List them."""
        from taskvectors.models import FAMILIES

        rows = [
            {"name": family.name, "model_type": model_type}
            for model_type, family in FAMILIES.items()
        ]
        table = Table(
            headings=("family", "model_type in its config"),
            rows=[(row["name"], row["model_type"]) for row in rows],
        )
        more = "docs/adding-a-family.md says how to add one."
        return Result(data={"rows": rows}, shown=[table, more])
