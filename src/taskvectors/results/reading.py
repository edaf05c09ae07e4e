"""A run folder, read whole: the one reader, strict about every file.

A file that is missing, broken or does not fit its schema is an error that names it, so that a page
never shows less than the run holds, and nothing that is read is believed before it is checked.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator

from taskvectors.errors import DataError, require_package
from taskvectors.files import fitting, read_json
from taskvectors.results.columns import Columns
from taskvectors.results.figures import AnyFigure, Figure, Heatmap
from taskvectors.results.record import COLUMNS, AnsweredItem, Kind, Published, Record

FORMAT = 2
"""Of a run folder; folders without a number are older."""
SHARES = frozenset(
    {"accuracy", "first_token_accuracy", "label_accuracy", "in_label_set", "validation_accuracy"}
)
"""Measures that are between 0 and 1."""
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "compare": ("template", "shots", "seed", "n_test"),
    "explain": ("analyses", "vector"),
    "experiment": ("experiment", "title", "question", "paper", "what_the_paper_did",
                   "what_we_do_otherwise"),
}  # fmt: skip
"""What `config.json` holds beside what every kind has."""
_ROUNDING = 1e-6


class Asked(BaseModel):
    """What `config.json` holds from the start: what was asked for, and what it is made from."""

    model_config = ConfigDict(extra="allow")
    format: Literal[2]
    kind: Kind
    asked: dict[str, Any]
    made_from: dict[str, str] = {}
    """Hash of each input that the numbers depend on, by its name in words."""


class _Finished(Asked):
    """What it holds beside that once there are results."""

    model: str
    task: str
    command: list[str]
    versions: dict[str, str]
    finished: str | None
    """When the run came to its end."""
    warnings: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


class _Analysis(BaseModel):
    """One analysis among `analyses` of a run of them."""

    name: str
    title: str
    question: str
    citation: str
    columns: Columns
    summary: str
    error: str | None
    seconds: float


class _Figure(BaseModel):
    """What is checked of a figure before its own fields are."""

    model_config = ConfigDict(extra="allow")
    kind: Literal["Figure", "Heatmap"]
    name: str

    @field_validator("name")
    @classmethod
    def _is_no_path(cls, name: str) -> str:
        if (
            not name
            or name[0] == "."
            or not all(letter.isalnum() or letter in "._-" for letter in name)
        ):
            raise ValueError("names a file, so it has letters, digits, '.', '_' and '-' alone")
        return name


_FIGURES: Mapping[str, type[AnyFigure]] = {"Figure": Figure, "Heatmap": Heatmap}


def read_run(folder: str | Path) -> Record:
    """The record of a run folder, read whole.

    Args:
        folder: What a run was written to; a run that did not finish has the rows it came to.

    Raises:
        DataError: A file is missing, cannot be read, or holds what cannot be.
        TaskVectorsError: pyarrow is not installed.
    """
    folder = Path(folder).expanduser()
    path = folder / "config.json"
    if not path.is_file():
        raise DataError(
            f"{path} does not exist, so {folder} is no run folder; give the folder that a run was "
            "written to"
        )
    if (folder / "vector.safetensors").is_file():
        raise DataError(f"{folder} holds a vector, not a run; give the folder of a run")
    held = read_object(path)
    asked = read_asked(path, held)
    if "model" not in held or not (folder / "results.parquet").is_file():
        raise DataError(
            f"{folder} holds a run without results yet; start its command again, it goes on where "
            "it stopped"
        )
    config = checked(path, _Finished, held)
    missing = [name for name in _NEEDED.get(asked.kind, ()) if name not in held]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; run the command again")
    if asked.kind == "explain":
        checked(path, list[_Analysis], held["analyses"])
    metadata = {name: v for name, v in held.items() if name not in ("warnings", "published")}
    warnings = config.warnings
    if config.finished is None:
        warnings = ("The run did not come to its end; the same command goes on with it.", *warnings)
    return Record(
        kind=config.kind,
        metadata=metadata,
        frame=_read_rows(folder / "results.parquet"),
        figures=tuple(_read_figures(folder / "figures.json")),
        curves=pd.DataFrame(_read_lines(folder / "metrics.jsonl")),
        examples=tuple(
            checked(folder / "examples.jsonl", AnsweredItem, line)
            for line in _read_lines(folder / "examples.jsonl")
        ),
        published=config.published,
        warnings=warnings,
        folder=folder,
    )


def read_asked(path: Path, held: Mapping[str, Any]) -> Asked:
    """What a `config.json` says was asked for.

    Raises:
        DataError: It is damaged, or of another version.
    """
    if "format" not in held and "asked" in held:
        raise DataError(
            f"{path.parent} holds a run of an earlier version, which is not read any more; run its "
            "command again, into a new folder"
        )
    asked: Asked = checked(path, Asked, held)
    return asked


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    found: dict[str, Any] = read_json(path, dict[str, Any], _AGAIN)
    return found


_AGAIN = "run the command again, into a new folder"


def checked(path: Path, schema: Any, value: Any) -> Any:
    """A value that a file of a run holds, as its schema has it; see `fitting`."""
    return fitting(value, schema, path, _AGAIN)


def _read_rows(path: Path) -> pd.DataFrame:
    require_package("pyarrow", "demo", "reading the results of a run")
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise many kinds
        raise DataError(f"{path} is no parquet table ({error}); {_AGAIN}") from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; {_AGAIN}")
    for name in ("value", "low", "high", "n"):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataError(f"{path}: the column {name} does not hold numbers; {_AGAIN}")
    _check_possible(path, frame)
    return frame


def _check_possible(path: Path, frame: pd.DataFrame) -> None:
    """Raise if a number cannot be."""
    value, low, high = (frame[name].astype("float64") for name in ("value", "low", "high"))
    is_share = frame["measure"].isin(SHARES)
    outside = is_share & ~value.between(-_ROUNDING, 1 + _ROUNDING) & value.notna()
    beside = is_share & ((value < low - _ROUNDING) | (value > high + _ROUNDING))
    negative = frame["n"].lt(0).fillna(False).astype(bool)
    for wrong, why in (
        (outside, "is no share between 0 and 1"),
        (beside, "lies outside its interval"),
        (low > high, "has an interval that ends before it begins"),
        (negative, "is on a negative number of prompts"),
    ):
        if wrong.any():
            number = int(wrong.to_numpy().argmax())
            row = frame.iloc[number]
            raise DataError(
                f"{path}, row {number}: {row['measure']} {row['value']:.4g} of {row['method']} "
                f"{why}; {_AGAIN}"
            )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}); {_AGAIN}") from error
        if not isinstance(line, dict):
            raise DataError(f"{path}, line {number} is {text!r}, expected an object")
        lines.append(line)
    return lines


def _read_figures(path: Path) -> list[AnyFigure]:
    if not path.is_file():
        return []
    held: list[Any] = read_json(path, list[Any], _AGAIN)
    return [figure_of(path, one) for one in held]


def figure_of(path: Path, held: Any) -> AnyFigure:
    """A figure as a file describes it.

    Raises:
        DataError: That is no figure, or its name is a path.
    """
    about = checked(path, _Figure, held)
    fields = {name: value for name, value in dict(held).items() if name != "kind"}
    figure: AnyFigure = checked(path, _FIGURES[about.kind], fields)
    return figure
