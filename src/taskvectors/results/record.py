"""The record of a run: tidy rows, one measurement each, and what a reader needs beside them.

`value` is the number that `measure` names; `low` and `high` are the ends of its 95 % interval where
it has one. Whatever else tells rows apart has a column of its own, and is said in words in
`configuration`. The table is queried with pandas or DuckDB.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from taskvectors.results.figures import AnyFigure

Kind = Literal["compare", "explain", "evaluate", "train", "experiment"]
"""Which verb made a run; `experiment` is `reproduce`'s."""

COLUMNS = (
    "experiment", "model", "task", "method", "layers", "positions", "shots", "seed",
    "configuration", "measure", "value", "low", "high", "n",
)  # fmt: skip
TIMED = frozenset(
    {"seconds", "seconds_per_step", "peak_bytes", "inference_seconds", "inference_peak_bytes"}
)
"""Measures that a repetition takes anew; all others repeat."""
OVER_TASKS = "mean over tasks"
"""The task of a row that stands for all of them."""
NOT_READ = "not read"
"""In place of a published value that we have not seen."""
_NOT_IN_WORDS = frozenset({
    "correct", "selected", "preset_selected", "is_control", "error", "note", "learner", "preset",
    "candidate", "converged", "strength", "row",
})  # fmt: skip
"""Columns that `configuration` does not repeat."""
_WHOLE = ("shots", "seed", "n")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number; one row of the table."""

    measure: str
    value: float | None
    """None where it could not be measured; `about` says why, as `error`."""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """Prompts, trials or draws behind it."""
    method: str = ""
    task: str = ""
    layers: Sequence[int | str] = ()
    positions: Sequence[int | str] = ()
    shots: int | None = None
    seed: int | None = None
    configuration: str = ""
    """In words; made of `about` by default."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else tells it apart, a column each: numbers, texts, truth values."""

    def as_row(self, **shared: Any) -> dict[str, Any]:
        """The row of the table.

        Args:
            shared: Columns that all rows of a run or a group share: `experiment`, `model`, and
                `task` and `seed` where the measurement has none of its own.
        """
        own = {"task": self.task, "seed": self.seed}
        known = {name: value for name, value in own.items() if value not in ("", None)}
        return {
            "experiment": "",
            "model": "",
            "task": "",
            "seed": None,
            **shared,
            **known,
            "method": self.method,
            "layers": json.dumps(list(self.layers)),
            "positions": json.dumps(list(self.positions)),
            "shots": self.shots,
            "configuration": self.configuration or in_words(self.about),
            "measure": self.measure,
            "value": finite(self.value),
            "low": finite(self.low),
            "high": finite(self.high),
            "n": self.n,
            **self.about,
        }


@dataclass(frozen=True, kw_only=True)
class Published:
    """One value of a paper, under the keys that our row of it has.

    Shares are between 0 and 1, as ours are.
    """

    measure: str
    value: float | str
    """The number, or `not read`."""
    source: str
    model: str
    method: str = ""
    configuration: str = ""
    task: str = ""
    layers: Literal["", "one", "several"] = ""
    """How many layers the rows' vectors have."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the rows, such as `analysis` and its keys, and what they hold."""
    note: str = ""

    @property
    def keys(self) -> dict[str, str]:
        """Columns of the rows that it stands beside, and what they hold."""
        held = {
            "method": self.method,
            "configuration": self.configuration,
            "task": self.task,
            "layers": self.layers,
        }
        return {name: value for name, value in (held | dict(self.about)).items() if value}


@dataclass(frozen=True, kw_only=True)
class AnsweredItem:
    """One test item and what the model answered, by method."""

    input: str
    answer: str
    predictions: Mapping[str, str]
    correct: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """Everything that one run holds.

    Attributes:
        kind: Which verb made it.
        metadata: What was run and on what, as `config.json` holds it.
        frame: Tidy rows, as `results.parquet` holds them; `COLUMNS` first.
        figures: Figures as data; that of an analysis has the analysis' name.
        curves: One row per logged step of training; empty where nothing is trained.
        examples: Test items with generated answers.
        published: Values of the paper that an experiment repeats.
        warnings: What a reader of the numbers has to know.
        folder: Where the run lies; None for one that was not written.
    """

    kind: Kind
    metadata: Mapping[str, Any]
    frame: pd.DataFrame
    figures: tuple[AnyFigure, ...] = ()
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: tuple[AnsweredItem, ...] = ()
    published: tuple[Published, ...] = ()
    warnings: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end; a part of its rows otherwise."""
        return self.metadata.get("finished") is not None

    def to_frame(self) -> pd.DataFrame:
        """A copy of the tidy rows."""
        return self.frame.copy()

    def save(self, folder: str | Path) -> None:
        """Write it as a run folder.

        Args:
            folder: A new or an empty folder.

        Raises:
            DataError: The folder holds something else, or cannot be written.
        """
        from taskvectors.results.folder import save_record

        save_record(self, Path(folder))


def in_words(about: Mapping[str, Any]) -> str:
    """Keys and values as a text, without what is absent and what was chosen on validation.

    Example:
        >>> in_words({"layer": 3, "around": "vector", "at": None, "strength": 2.0})
        'layer 3, around vector'
    """
    known = {
        key: value
        for key, value in about.items()
        if value not in (None, "") and key not in _NOT_IN_WORDS
    }
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in known.items())


def finite(value: float | None) -> float | None:
    """A number, or None where it is none."""
    return None if value is None or not math.isfinite(value) else float(value)


def frame_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: the common columns first, then the others by name, each of one type.

    Whole numbers stay such where values are absent; a column of several types is text, since no
    file of columns holds it otherwise.
    """
    rows = [{name: _plain(value) for name, value in row.items()} for row in rows]
    # in one order, whichever rows came first, and without columns that are absent everywhere, which
    # cells do not keep: a run that went on is like one that did not stop
    others = {name for row in rows for name, value in row.items() if value is not None}
    names = [*COLUMNS, *sorted(others - set(COLUMNS))]
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if name in ("value", "low", "high"):
            columns[name] = pd.array([math.nan if v is None else v for v in values], "float64")
        elif name in _WHOLE or kinds == {int}:
            columns[name] = pd.array(values, dtype="Int64")
        elif len(kinds) > 1 and not kinds <= {int, float}:
            columns[name] = [None if value is None else str(value) for value in values]
        else:
            columns[name] = values
    return pd.DataFrame(columns)


def _plain(value: Any) -> Any:
    """A cell without NumPy's and pandas' types; None where it is absent."""
    if value is pd.NA:
        return None
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def named_rows(frame: pd.DataFrame) -> list[Any]:
    """A table's rows with their columns as attributes."""
    return list(frame.itertuples())


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as plain values; what is absent is None."""
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that were chosen on validation, and those where there was nothing to choose.

    A candidate is chosen among all of its method, or among those of its preset.
    """
    if "selected" not in frame:
        return frame
    kept = frame["selected"].ne(False).fillna(True)
    if "preset_selected" in frame:
        kept |= frame["preset_selected"].eq(True).fillna(False)
    return frame[kept.astype(bool)]
