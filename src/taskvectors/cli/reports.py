"""A run's page as verbs show it: its report in the run's folder, its tables in the terminal."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taskvectors.cli.results import Table
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
    """The tables of the report that are not folded, no longer than a few screens."""
    left = _MOST_ROWS
    tables = [table for table in page.tables() if not table.is_folded]
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
