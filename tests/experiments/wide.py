"""The wide rows of a comparison's record, as `compare --json` has them."""

from typing import Any

from taskvectors.experiments import comparison_json
from taskvectors.results import Record


def rows_in(record: Record) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = comparison_json(record)["rows"]
    return rows
