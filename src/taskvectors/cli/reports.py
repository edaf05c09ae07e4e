"""The report beside a run's results, as every verb that makes a run writes it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from taskvectors.errors import TaskVectorsError

if TYPE_CHECKING:
    from taskvectors.results import Record

logger = logging.getLogger(__name__)


def written_report(record: "Record") -> Path | None:
    """The report of a run; None, and a warning, where it cannot be drawn: the results stay."""
    from taskvectors.report import write_report

    logger.info("Writing the report, a few seconds")
    try:
        return write_report(record)
    except TaskVectorsError as error:
        logger.warning("no report was written: %s", error)
        return None
