"""`taskvectors families`: which models can be read and edited."""

from dataclasses import dataclass

from taskvectors.cli.arguments import Output
from taskvectors.cli.results import Result, Table


@dataclass(frozen=True, kw_only=True)
class Families:
    """The causal model types of the installed transformers, one line each."""

    output: Output

    def run(self) -> Result:
        """List them."""
        from taskvectors.models import causal_types

        rows = [{"model_type": model_type} for model_type in causal_types()]
        table = Table(
            headings=("model_type in its config",), rows=[(r["model_type"],) for r in rows]
        )
        return Result(data={"rows": rows}, shown=[table])
