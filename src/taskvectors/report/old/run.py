"""A finished run, as it lies on disk: what was asked, what was measured, what was answered.

Reading is strict: a file that is missing, broken or without the needed columns is an error that
names it, so that a report never shows less than the run holds. Absent values are `None`, never NaN.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.errors import DataError, require_package

BASELINES = ("zero-shot", "icl")
"""Methods without a vector: what a vector is compared with."""

_INTEGERS = {
    "shots",
    "seed",
    "n",
    "parameters",
    "examples",
    "steps",
    "peak_bytes",
    "forward_tokens",
}
_LISTS = {"layers", "positions"}
_FLAGS = {"selected", "is_control", "converged"}
_TEXTS = {"method", "configuration", "note", "error"}
_NEEDED_KEYS = ("model", "task")
_NEEDED_COLUMNS = ("method", "accuracy", "selected", "is_control")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One row of a run: a method in one configuration, and what it scored on the test split.

    Shares are between 0 and 1; the interval is the 95 % one. `difference_to_icl` is paired.
    """

    method: str
    configuration: str | None = None
    layers: tuple[int | str, ...] = ()
    positions: tuple[int | str, ...] = ()
    shots: int | None = None
    seed: int | None = None
    n: int | None = None
    accuracy: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    validation_accuracy: float | None = None
    selected: bool = False
    difference_to_icl: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    parameters: int | None = None
    examples: int | None = None
    seconds: float | None = None
    is_control: bool = False
    converged: bool | None = None
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnsweredItem:
    """One test item and what the model answered, by method."""

    input: str
    answer: str
    predictions: Mapping[str, str]
    correct: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Everything a report is made from.

    Attributes:
        folder: Where the run lies.
        config: What was asked for, as in `config.json`.
        rows: One line per measurement, as in `results.parquet`.
        measurements: The same rows as values, in the same order, but for the pooled ones.
        pooled: Rows that stand for a method's choices over several seeds, by method.
        examples: Test items with answers; empty where the run kept none.
        metrics: One line per logged learning step; empty where the run kept none.
    """

    folder: Path
    config: Mapping[str, Any]
    rows: pd.DataFrame
    measurements: tuple[Measurement, ...]
    pooled: Mapping[str, Measurement]
    examples: tuple[AnsweredItem, ...]
    metrics: pd.DataFrame


def read_run(folder: Path) -> Run:
    """A run folder, read whole.

    Args:
        folder: Holds `config.json` and `results.parquet`, and perhaps `metrics.jsonl` and
            `examples.jsonl`.

    Returns:
        The run.

    Raises:
        DataError: A needed file, key or column is missing, or a line cannot be read.
        TaskVectorsError: pyarrow is not installed.
    """
    config = _read_config(folder / "config.json")
    rows = _read_rows(folder / "results.parquet")
    records = rows.to_dict(orient="records")
    found = [_measurement({str(k): v for k, v in record.items()}) for record in records]
    # a row without a seed, among rows that have one, pools them
    has_seeds = any(row.seed is not None for row in found)
    pooled = [row for row in found if has_seeds and row.seed is None]
    main = [row for row in pooled if row.selected]  # presets have pooled rows of their own
    return Run(
        folder=folder,
        config=config,
        rows=rows,
        measurements=tuple(row for row in found if row not in pooled),
        pooled={row.method: row for row in main},
        examples=_read_examples(folder / "examples.jsonl"),
        metrics=pd.DataFrame(_read_lines(folder / "metrics.jsonl")),
    )


def plain(column: str, value: object) -> object:
    """A table cell as a plain Python value, whatever pandas and parquet made of it.

    Args:
        column: Name of the column; decides between list, whole number, flag and text.
        value: What the table holds.

    Returns:
        A tuple, int, float, bool or string; `None` for anything that is absent.
    """
    if column in _LISTS:
        return _list(value)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if column in _FLAGS:
        return bool(value)
    if column in _INTEGERS and isinstance(value, int | float):
        return int(value)
    return (str(value).strip() or None) if column in _TEXTS else value


def _list(value: object) -> tuple[int | str, ...]:
    if isinstance(value, str):
        # parquet has no column of mixed types, so a list may have been stored as JSON text
        value = json.loads(value) if value.lstrip().startswith("[") else [value]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, int | float):
        value = [] if math.isnan(value) else [value]
    if value is None or not isinstance(value, Sequence):
        return ()
    return tuple(_int_or_name(item) for item in value)


def _int_or_name(item: object) -> int | str:
    text = str(item)
    return int(float(text)) if text.lstrip("-").replace(".", "", 1).isdigit() else text


def _measurement(record: Mapping[str, Any]) -> Measurement:
    known = {field.name for field in fields(Measurement)}
    values: dict[str, Any] = {
        name: plain(name, value) for name, value in record.items() if name in known
    }
    for flag in ("selected", "is_control"):
        values[flag] = bool(values[flag])
    return Measurement(**values)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist, so {path.parent} is not a run folder; "
            "give the folder that a run was written to"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the command again") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} holds a {type(config).__name__}, expected an object")
    missing = [key for key in _NEEDED_KEYS if key not in config]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; run the command again")
    return config


def _read_rows(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: the run has no results yet; "
            "start its command again, it goes on where it stopped"
        )
    require_package("pyarrow", "demo", "reading the results of a run")
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a parquet table ({error}); run the command again"
        ) from error
    missing = [column for column in _NEEDED_COLUMNS if column not in rows.columns]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(rows.columns)}"
        )
    return rows


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is not JSON ({error}); delete the line or run again"
            ) from error
        if not isinstance(line, dict):
            raise DataError(f"{path}, line {number} is {text[:40]!r}, expected an object")
        lines.append(line)
    return lines


def _read_examples(path: Path) -> tuple[AnsweredItem, ...]:
    items = []
    for number, line in enumerate(_read_lines(path), start=1):
        missing = [k for k in ("input", "answer", "predictions", "correct") if k not in line]
        if missing:
            raise DataError(f"{path}, item {number} lacks {', '.join(missing)}")
        items.append(
            AnsweredItem(
                input=str(line["input"]),
                answer=str(line["answer"]),
                predictions={k: str(v) for k, v in line["predictions"].items() if v is not None},
                correct={k: bool(v) for k, v in line["correct"].items() if v is not None},
            )
        )
    return tuple(items)
