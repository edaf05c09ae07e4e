"""How a comparison is shown: the chosen row of each method, and its controls."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.results import Result, Table
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments import Comparison

logger = logging.getLogger(__name__)

_NUMBERS = frozenset({"accuracy", "95 % interval", "against ICL", "examples", "time"})


def shown_comparison(found: "Comparison", *, with_report: bool) -> Result:
    """A finished comparison, with its report written beside it.

    Args:
        found: The comparison.
        with_report: Whether to write the report.
    """
    report = _written_report(found.folder) if with_report else None
    data = found.as_json() | {
        "folder": str(found.folder),
        "report": None if report is None else str(report),
    }
    shown: list[str | Table] = [comparison_table(found.rows)]
    if report is None:
        shown.append(f"The run is in {found.folder}")
    else:
        shown += [*_headline(found.folder), f"The report is {report}"]
    return Result(data=data, shown=shown)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Methods and then controls; over several seeds, the rows that pool them."""
    from taskvectors.report.wording import duration, percent, percent_range, points, whole

    pooled = [row for row in rows if row["seed"] is None]
    chosen = [row for row in rows if row["selected"] and (not pooled or row["error"])]
    lines = []
    for row in sorted([*pooled, *chosen], key=lambda row: bool(row["is_control"])):
        failed = f"failed: {row['error']}" if row["error"] else ""
        lines.append(
            (
                f"{row['method']} (control)" if row["is_control"] else row["method"],
                failed or _where(row),
                percent(row["accuracy"], 1),
                percent_range(row["ci_low"], row["ci_high"], 1),
                points(row["difference_to_icl"], 1),
                whole(row["examples"]),
                duration(row["seconds"]),
            )
        )
    headings = (
        *("method", "where", "accuracy", "95 % interval", "against ICL", "examples", "time"),
    )
    return Table(headings=headings, rows=lines, numbers=_NUMBERS)


def _where(row: Mapping[str, Any]) -> str:
    from taskvectors.report.wording import after_layers, at_positions

    parts = [row["configuration"]]
    if row["layers"]:
        parts += [after_layers(row["layers"]), at_positions(row["positions"])]
        if row["strength"] not in (None, 1):
            parts.append(f"strength {row['strength']:g}")
    return ", ".join(part for part in parts if part)


def _written_report(folder: Path) -> Path | None:
    """The report; the results are shown without it where it cannot be drawn."""
    from taskvectors.report import write_report

    try:
        return write_report(folder)
    except TaskVectorsError as error:
        logger.warning("no report was written: %s", error)
        return None


def _headline(folder: Path) -> list[str]:
    from taskvectors.report import headline, read_run

    said = headline(read_run(folder))
    return [text for text in (said.sentence, said.verdict) if text]
