"""A run's page as verbs show it: its report in the run's folder, its tables in the terminal."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.results import Result, Table
from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.report import Page
    from taskvectors.results import Record

logger = logging.getLogger(__name__)

_MOST_ROWS = 60
"""Of a table for people; the results have all."""


def written_report(record: "Record") -> Path | None:
    """The report of a run; None, and a warning, where it cannot be drawn: the results stay."""
    from taskvectors.report import write_report

    logger.info("Writing the report, a few seconds")
    try:
        return write_report(record)
    except TaskVectorsError as error:
        logger.warning("no report was written: %s", error)
        return None


def page_tables(page: "Page") -> Iterator[str | Table]:
    """The tables of the report's results and controls, no longer than a few screens."""
    left = _MOST_ROWS
    found = [*page.tables("results"), *page.tables("controls")]
    tables = [table for table in found if not table.is_folded]
    for number, table in enumerate(tables):
        if len(table.rows) > left and number:
            yield f"{len(tables) - number} more tables are in the report."
            return
        yield f"\n{table.title}"
        yield from table.before
        yield Table(
            headings=tuple(table.headings),
            rows=table.texts[:left],
            numbers=frozenset(column.name for column in table.columns if column.is_number),
        )
        if len(table.rows) > left:
            yield f"{len(table.rows) - left} more rows are in results.parquet."
        left -= min(len(table.rows), left)
        yield from table.after


def with_report(
    record: "Record", data: dict[str, Any], shown: list[str | Table], *, written: bool = True
) -> Result:
    """What a verb says of a run, with where it lies and its report at the end.

    Args:
        record: The run.
        data: For machines.
        shown: For people.
        written: Whether to write the report, where the run lies in a folder.
    """
    if record.folder is None:
        return Result(data=data, shown=shown)
    report = written_report(record) if written else None
    data |= {"folder": str(record.folder), "report": None if report is None else str(report)}
    where = f"The run is in {record.folder}" if report is None else f"The report is {report}"
    return Result(data=data, shown=[*shown, where])


def shown_learners(record: "Record", data: dict[str, Any]) -> Result:
    """Learners that were measured.

    Args:
        record: Their record.
        data: What machines are told beside the rows.
    """
    from taskvectors.report import page_of
    from taskvectors.results.learners import finding_of

    found, page = finding_of(record.frame), page_of(record)
    data |= {"rows": list(found.rows), "shifts": list(found.shifts), "trends": list(found.trends)}
    return with_report(record, data, [*page_tables(page), page.headline])


def shown_comparison(record: "Record", *, written: bool = True) -> Result:
    """A comparison, as its page has it.

    Args:
        record: The comparison's record.
        written: Whether to write the report.

    Raises:
        TaskVectorsError: Not one method could be run.
    """
    from taskvectors.experiments import check_any_ran, comparison_json
    from taskvectors.report import page_of

    data, methods = comparison_json(check_any_ran(record)), record.metadata.get("methods") or {}
    by_name = {name: about | {"title": name} for name, about in methods.items()}  # can be typed
    page = page_of(replace(record, metadata={**record.metadata, "methods": by_name}))
    said = [text for text in (page.headline, page.verdict) if text]
    return with_report(record, data, [*page_tables(page), "", *said], written=written)
