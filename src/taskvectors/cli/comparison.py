"""How a comparison is shown: the chosen row of each method, and its controls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.reports import written_report
from taskvectors.cli.results import Result, Table
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.experiments import Comparison


_NUMBERS = frozenset({"accuracy", "95 % interval", "against ICL", "examples", "time"})


def shown_comparison(found: "Comparison", *, with_report: bool) -> Result:
    """A finished comparison, with its report written beside it.

    Args:
        found: The comparison.
        with_report: Whether to write the report.

    Raises:
        TaskVectorsError: Not one method could be run.
    """
    methods = [row for row in found.rows if not row["is_control"]]
    if all(row["error"] for row in methods):
        raise TaskVectorsError(f"no method could be run: {methods[0]['error']}")
    report = written_report(found.folder) if with_report else None
    data = found.as_json() | {
        "folder": str(found.folder),
        "report": None if report is None else str(report),
    }
    shown: list[str | Table] = [comparison_table(found.rows)]
    if sum(row["steps"] is not None and not row["is_control"] for row in found.rows) > 1:
        shown.append(
            "The time of a learned vector is that of all vectors that were tried for it.\n"
        )
    if report is None:
        shown.append(f"The run is in {found.folder}")
    else:
        shown += [*_headline(found.folder), f"The report is {report}"]
    return Result(data=data, shown=shown)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Methods and then controls; over several seeds, the rows that pool them."""
    from taskvectors.format import percent, percent_range, points, whole
    from taskvectors.report.old.wording import duration

    pooled = [row for row in rows if row["seed"] is None]
    chosen = [
        row
        for row in rows
        if (row["selected"] or row["preset_selected"]) and (not pooled or row["error"])
    ]
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
                duration(_seconds(row, rows)),
            )
        )
    headings = (
        *("method", "where", "accuracy", "95 % interval", "against ICL", "examples", "time"),
    )
    return Table(headings=headings, rows=lines, numbers=_NUMBERS)


def _seconds(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """What a row took; vectors that are learned side by side count as the one that was chosen."""
    seconds: float | None = row["seconds"]
    if row["steps"] is None or row["is_control"]:
        return seconds
    of_seed: dict[int, float] = {}
    for one in rows:
        if one["method"] == row["method"] and one["seed"] is not None and one["seconds"]:
            of_seed[one["seed"]] = of_seed.get(one["seed"], 0.0) + one["seconds"]
    if row["seed"] is None:
        return sum(of_seed.values()) / len(of_seed)
    return of_seed[row["seed"]]


def _where(row: Mapping[str, Any]) -> str:
    from taskvectors.format import after_layers, at_positions

    parts = [row["configuration"]]
    if row["layers"]:
        parts += [after_layers(row["layers"]), at_positions(row["positions"])]
        if row["strength"] not in (None, 1):
            parts.append(f"strength {row['strength']:g}")
    if row["preset"] and row["preset"] not in row["configuration"]:
        parts.append(row["preset"])
    return ", ".join(part for part in parts if part)


def _headline(folder: Path) -> list[str]:
    from taskvectors.report.old import headline, read_run

    said = headline(read_run(folder))
    return [text for text in (said.sentence, said.verdict) if text]
