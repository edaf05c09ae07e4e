"""How a comparison is shown: the chosen row of each method, and its controls."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskvectors.cli.reports import written_report
from taskvectors.cli.results import Result, Table, duration

if TYPE_CHECKING:
    from taskvectors.results import Record


_NUMBERS = frozenset({"accuracy", "95 % interval", "against ICL", "examples", "time"})


def shown_comparison(record: "Record", *, with_report: bool) -> Result:
    """A finished comparison, with its report written beside it.

    Args:
        record: The comparison's record.
        with_report: Whether to write the report.

    Raises:
        TaskVectorsError: Not one method could be run.
    """
    from taskvectors.experiments import check_any_ran, comparison_json

    data = comparison_json(check_any_ran(record))
    rows = data["rows"]
    report = written_report(record) if with_report else None
    data |= {
        "folder": str(record.folder),
        "report": None if report is None else str(report),
    }
    shown: list[str | Table] = [comparison_table(rows)]
    if sum(row["steps"] is not None and not row["is_control"] for row in rows) > 1:
        shown.append(
            "The time of a learned vector is that of all vectors that were tried for it.\n"
        )
    if report is None:
        shown.append(f"The run is in {record.folder}")
    else:
        shown += [*_said(record), f"The report is {report}"]
    return Result(data=data, shown=shown)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Methods and then controls; over several seeds, the rows that pool them."""
    from taskvectors.format import percent, percent_range, points, whole

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


def _said(record: "Record") -> list[str]:
    """The headline and the verdict of the run's page."""
    from taskvectors.report import page_of

    page = page_of(record)
    return [text for text in (page.headline, page.verdict) if text]
