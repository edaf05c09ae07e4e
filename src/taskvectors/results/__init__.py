"""What a run holds, and where: one tidy record, the run folder, figures as data."""

from taskvectors.results.columns import Columns, analysis_tables
from taskvectors.results.folder import BEST_VECTOR, Cell, RunFolder, open_run
from taskvectors.results.pivot import ComparisonRow, comparison_rows
from taskvectors.results.reading import read_run
from taskvectors.results.record import (
    COLUMNS,
    NOT_READ,
    OVER_TASKS,
    AnsweredItem,
    Kind,
    Measurement,
    Published,
    Record,
    chosen,
    frame_of,
)

__all__ = [
    "BEST_VECTOR",
    "COLUMNS",
    "NOT_READ",
    "OVER_TASKS",
    "AnsweredItem",
    "Cell",
    "Columns",
    "ComparisonRow",
    "Kind",
    "Measurement",
    "Published",
    "Record",
    "RunFolder",
    "analysis_tables",
    "chosen",
    "comparison_rows",
    "frame_of",
    "open_run",
    "read_run",
]
