"""`taskvectors families`: which model types can be read and edited, and how fast."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from taskvectors.cli.arguments import Output
from taskvectors.cli.progress import hush_transformers
from taskvectors.cli.results import Result, Table

if TYPE_CHECKING:
    from taskvectors.models.survey import SurveyRow

_LONGEST = 100
"""Characters of a reason in the table; --json has the whole of it."""


@dataclass(frozen=True, kw_only=True)
class Families:
    """The model types of the installed transformers, each measured on a tiny random model.

    The engine `trunk` shares most between branches of a prompt, `cached` its prefix, `whole`
    nothing; results are the same. Measuring takes minutes the first time, then the results are
    kept for these versions of transformers, torch and taskvectors.
    """

    types: Annotated[
        tuple[str, ...], arg(metavar="TYPE ...", help_behavior_hint="(default: all)")
    ] = ()
    """Only these types, as `model_type` in a model's config."""
    output: Output

    def run(self) -> Result:
        """Measure them, or read what was measured."""
        hush_transformers("embedded")
        from taskvectors.errors import TaskVectorsError
        from taskvectors.models.survey import model_types, survey

        unknown = sorted(set(self.types) - set(model_types()))
        if unknown:
            raise TaskVectorsError(
                f"transformers here has no causal model type {unknown[0]!r}; `taskvectors families`"
                " lists all there are"
            )
        rows = list(survey(self.types))
        table = Table(
            headings=("model type", "engine", "largest error", "sites", "reason"),
            rows=[_cells(row) for row in rows],
            numbers=frozenset({"largest error"}),
        )
        return Result(data={"rows": [asdict(row) for row in rows]}, shown=[table, summary(rows)])


def _cells(row: "SurveyRow") -> tuple[str, ...]:
    error = "" if row.largest_error is None else f"{row.largest_error:.1e}"
    reason = row.reason if len(row.reason) <= _LONGEST else f"{row.reason[:_LONGEST]} ..."
    return row.model_type, row.engine or "not served", error, " ".join(row.sites), reason


def summary(rows: "list[SurveyRow]") -> str:
    """How many types run on each engine, in one line for each kind."""
    lines = []
    for kind in ("text", "multimodal"):
        counts: Counter[str] = Counter(
            row.engine or "not served" for row in rows if row.kind == kind
        )
        if counts:
            order = [name for name in ("trunk", "cached", "whole", "not served") if counts[name]]
            parts = ", ".join(f"{counts[name]} {name}" for name in order)
            lines.append(f"{kind}: {counts.total()} types, {parts}")
    return "\n".join(lines)
