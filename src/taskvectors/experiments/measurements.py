"""Rows of results: one measurement each, the same columns in every experiment.

A table is queried with pandas or DuckDB. `value` is the number that `measure` names; `low` and
`high` are the ends of its 95 % interval where it has one; what else tells rows apart has a column
of its own, and is said in words in `configuration`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from taskvectors.evaluate import pooled_interval
from taskvectors.experiments.rows import Row

if TYPE_CHECKING:
    from taskvectors.experiments.experiment import Group

COLUMNS = (
    "experiment", "model", "task", "method", "layers", "positions", "shots", "seed",
    "configuration", "measure", "value", "low", "high", "n",
)  # fmt: skip
TIMED = frozenset({"seconds", "seconds_per_step", "peak_bytes"})
"""Measures that a repetition takes anew; all others repeat."""
OVER_TASKS = "mean over tasks"
"""The task of a row that stands for all of them."""

_OF_A_COMPARISON = {
    "accuracy": ("ci_low", "ci_high"),
    "difference_to_icl": ("difference_low", "difference_high"),
} | dict.fromkeys(
    (
        "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob",
        "validation_accuracy", "parameters", "examples", "steps", "seconds", "seconds_per_step",
        "peak_bytes", "forward_tokens", "d_ntp",
    )
)  # fmt: skip
"""Measures of a comparison's row, with the columns of their interval."""
_POOLED = frozenset({"accuracy", "first_token_accuracy"})


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number."""

    measure: str
    value: float | None
    """None where it could not be measured; `about` says why, as `error`."""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """Prompts, trials or draws behind it."""
    method: str = ""
    task: str = ""
    """Where a group has several; the group's by default."""
    layers: Sequence[int | str] = ()
    positions: Sequence[int | str] = ()
    shots: int | None = None
    configuration: str = ""
    """In words; made of `about` by default."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else tells it apart, a column each: numbers, texts, truth values."""

    def as_row(self, group: "Group") -> dict[str, Any]:
        """The row of the table."""
        model = "learner" if group.model is None else group.model.source
        return {
            "experiment": group.experiment,
            "model": str(self.about.get("learner", model)),
            "task": self.task or group.task,
            "method": self.method,
            "layers": json.dumps(list(self.layers)),
            "positions": json.dumps(list(self.positions)),
            "shots": self.shots,
            "seed": group.seed,
            "configuration": self.configuration or in_words(self.about),
            "measure": self.measure,
            "value": _number(self.value),
            "low": _number(self.low),
            "high": _number(self.high),
            "n": self.n,
            "group": group.key,
            **self.about,
        }


_UNTOLD = frozenset({"correct", "selected", "is_control", "error", "note", "learner", "preset",
                     "converged", "strength"})  # fmt: skip
"""Columns that `configuration` does not repeat."""


def in_words(about: Mapping[str, Any]) -> str:
    """Keys and values as a text, without what is absent and what was chosen on validation.

    Example:
        >>> in_words({"layer": 3, "around": "vector", "at": None, "strength": 2.0})
        'layer 3, around vector'
    """
    known = {
        key: value for key, value in about.items() if value not in (None, "") and key not in _UNTOLD
    }
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in known.items())


def of_comparison(rows: Iterable[Row], task: str = "") -> list[Measurement]:
    """The measurements of a comparison's rows: every candidate, its controls, and what failed."""
    found = []
    for row in rows:
        about: dict[str, Any] = {
            "preset": row.preset,
            "strength": row.strength,
            "selected": row.selected or row.preset_selected,
            "is_control": row.is_control,
            "converged": row.converged,
            "note": row.note,
            "error": row.error,
        }
        shared: dict[str, Any] = {
            "method": row.method,
            "task": task,
            "layers": row.layers,
            "positions": row.positions,
            "shots": row.shots,
            "configuration": row.preset or row.configuration,
        }
        if row.error is not None:
            found.append(Measurement(measure="error", value=None, about=about, **shared))
            continue
        for measure, ends in _OF_A_COMPARISON.items():
            value = getattr(row, measure)
            if value is None:
                continue
            low, high = (getattr(row, end) for end in ends) if ends else (None, None)
            hits = {"correct": row.correct} if measure == "accuracy" else {}
            found.append(
                Measurement(
                    measure=measure,
                    value=value,
                    low=low,
                    high=high,
                    n=row.n,
                    about=about | hits,
                    **shared,
                )
            )
    return found


def over_tasks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows that stand for all tasks and seeds of a model: the mean of those that were selected.

    A measure has one where every task has it. The interval of an accuracy is a bootstrap in two
    stages, over tasks and seeds and over the prompts within them; other measures have none.
    Tokens of a lens have no mean.
    """
    if rows.empty:
        return []
    keys = ["experiment", "model", "method", "configuration", "measure"]
    chosen = rows[rows["value"].notna()]
    if "selected" in chosen:
        chosen = chosen[chosen["selected"].ne(False)]
    if "text" in chosen:
        chosen = chosen[chosen["text"].isna()]
    found = []
    for names, part in chosen.groupby(keys, sort=False):
        of_model = chosen[chosen["model"] == names[1]]
        wanted = set(zip(of_model["task"], of_model["seed"], strict=True))
        if len(part) != len(wanted) or set(zip(part["task"], part["seed"], strict=True)) != wanted:
            continue
        low, high = _interval(part)
        counts = part["n"].dropna()
        own = [name for name in part.columns if name not in _NOT_COMMON]
        kept = [name for name in own if len(part) == 1 or part[name].nunique(dropna=False) == 1]
        found.append(
            dict(zip(keys, names, strict=True))
            | {name: part[name].iloc[0] for name in kept}
            | {
                "task": OVER_TASKS,
                "layers": _common(part["layers"]),
                "positions": _common(part["positions"]),
                "shots": part["shots"].iloc[0],
                "seed": None,
                "value": float(part["value"].mean()),
                "low": low,
                "high": high,
                "n": int(counts.sum()) if len(counts) else None,
                "group": "",
            }
        )
    return found


_NOT_COMMON = frozenset({*COLUMNS, "group", "correct"})
"""Columns that a row for all tasks has values of its own in, or none."""


def _interval(part: pd.DataFrame) -> tuple[float | None, float | None]:
    """That of the only row there is, else a bootstrap where single prompts are known."""
    if len(part) == 1:
        low, high = part["low"].iloc[0], part["high"].iloc[0]
        return (None, None) if pd.isna(low) or pd.isna(high) else (float(low), float(high))
    if "correct" not in part or part["correct"].isna().any():
        return None, None
    return pooled_interval(
        [torch.tensor([mark == "1" for mark in marks]) for marks in part["correct"]]
    )


def _common(values: "pd.Series[Any]") -> str:
    """What all rows have, or nothing where they differ."""
    return str(values.iloc[0]) if values.nunique() == 1 else "[]"


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: the common columns first, in their order and with their types."""
    frame = pd.DataFrame(
        rows, columns=list(dict.fromkeys([*COLUMNS, *(k for r in rows for k in r)]))
    )
    for name in ("value", "low", "high"):
        frame[name] = frame[name].astype("float64")
    for name in ("shots", "seed", "n"):
        frame[name] = frame[name].astype("Int64")
    return frame
