"""The report beside a run's results, as every verb that makes a run writes it."""

import logging
from pathlib import Path

from taskvectors.errors import TaskVectorsError

logger = logging.getLogger(__name__)


def written_report(folder: Path) -> Path | None:
    """The report of a run; None, and a warning, where it cannot be drawn: the results stay."""
    from taskvectors.report.old import write_report

    logger.info("Writing the report, a few seconds")
    try:
        return write_report(folder)
    except TaskVectorsError as error:
        logger.warning("no report was written: %s", error)
        return None
