"""A finished experiment of the papers, as it lies on disk.

Its results are one long table, one row per measurement. What the paper published stands in a file
of its own: values with their source and model, or that they were not read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.errors import DataError, require_package
from taskvectors.report.old.figure_files import FILE_NAME, figure_of
from taskvectors.results.figures import AnyFigure

NOT_READ = "not read"
OVER_TASKS = "mean over tasks"
"""The task of rows that stand for all of them."""
MEASURED = ("measure", "value", "low", "high", "n")
"""Columns that say what was measured; the others say of what."""
_NEEDED_KEYS = ("title", "question", "paper", "what_the_paper_did", "what_we_do_otherwise")
_NEEDED_COLUMNS = ("measure", "value")
_NEEDED_OF_PUBLISHED = ("measure", "value", "source", "model")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A value that a paper gives."""

    keys: Mapping[str, Any]
    """Which rows it stands beside: columns of the results, and what they have to hold."""
    measure: str
    value: Any
    source: str
    model: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ExperimentRun:
    """Everything the report of an experiment is made from."""

    folder: Path
    config: Mapping[str, Any]
    """What was run, as in `config.json`."""
    rows: pd.DataFrame
    """One row per measurement."""
    published: tuple[Published, ...]
    """Empty where no published value was read."""
    figures: tuple[AnyFigure, ...]


def read_experiment(folder: Path) -> ExperimentRun:
    """The run of an experiment, read whole.

    Raises:
        DataError: A file is missing, or lacks something that is needed.
        TaskVectorsError: pyarrow is not installed.
    """
    config = _read(folder / "config.json")
    _check(folder / "config.json", "keys", _NEEDED_KEYS, config)
    table = folder / "results.parquet"
    if not table.is_file():
        raise DataError(
            f"{table} does not exist: the run has no results yet; start its command again, it goes "
            "on where it stopped"
        )
    require_package("pyarrow", "demo", "reading the results of a run")
    rows = pd.read_parquet(table)
    _check(table, "columns", _NEEDED_COLUMNS, rows.columns)
    described = _read(folder / FILE_NAME) if (folder / FILE_NAME).is_file() else []
    return ExperimentRun(
        folder=folder,
        config=config,
        rows=rows,
        published=_published(folder / "published.json"),
        figures=tuple(figure_of(folder, kept) for kept in described),
    )


def _published(path: Path) -> tuple[Published, ...]:
    found = _read(path) if path.is_file() else NOT_READ
    if found == NOT_READ:
        return ()
    if not isinstance(found, list):
        raise DataError(f"{path} holds {found!r}, expected a list of values or {NOT_READ!r}")
    values = []
    for number, about in enumerate(found, start=1):
        _check(path, f"keys of value {number}", _NEEDED_OF_PUBLISHED, about)
        known = {name: about[name] for name in _NEEDED_OF_PUBLISHED}
        keys = {
            k: value for k, value in about.items() if k not in known and value not in ("", None)
        }
        values.append(Published(keys=keys, **known))
    return tuple(values)


def _check(path: Path, what: str, needed: tuple[str, ...], found: Any) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise DataError(
            f"{path} lacks the {what} {', '.join(missing)}; it has {', '.join(map(str, found))}"
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); run the command again") from error
