"""The wide rows of a comparison: one candidate a row, a column for each measure.

They are what methods are chosen and paired by, and the documented form of `compare --json`. The
record holds the same numbers as tidy rows.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from taskvectors.results.columns import Ends
from taskvectors.results.record import Measurement, rows_of

MEASURES: dict[str, Ends] = {
    "accuracy": ("ci_low", "ci_high"),
    "difference_to_icl": ("difference_low", "difference_high"),
} | dict.fromkeys(
    (
        "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob",
        "validation_accuracy", "parameters", "examples", "steps", "seconds", "seconds_per_step",
        "peak_bytes", "forward_tokens", "d_ntp",
    )
)  # fmt: skip
"""Columns that are measures, with the columns of their interval."""
_COUNTS = frozenset({"parameters", "examples", "steps", "peak_bytes", "forward_tokens"})
_ABOUT = (
    "preset", "strength", "selected", "preset_selected", "is_control", "converged", "note", "error",
)  # fmt: skip
"""Columns of the record beside the common ones."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One candidate on the test split."""

    method: str
    configuration: str
    layers: list[int | str]
    positions: list[int | str]
    strength: float | None
    shots: int
    seed: int | None
    """None for a row that pools several seeds."""
    n: int | None = None
    accuracy: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    first_token_accuracy: float | None = None
    label_accuracy: float | None = None
    in_label_set: float | None = None
    answer_logprob: float | None = None
    validation_accuracy: float | None = None
    selected: bool
    """Chosen on validation among the method's candidates; true for a method without choices."""
    preset: str | None = None
    """Name of a configuration, or number of training pairs, that the method was run in besides."""
    preset_selected: bool = False
    """Chosen on validation among the method's candidates in that preset."""
    is_control: bool
    difference_to_icl: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    parameters: int | None = None
    examples: int | None = None
    steps: int | None = None
    seconds: float | None = None
    seconds_per_step: float | None = None
    peak_bytes: int | None = None
    forward_tokens: int | None = None
    converged: bool | None = None
    d_ntp: float | None = None
    note: str | None = None
    error: str | None = None
    correct: str = ""
    """One character per test prompt, 1 where it is answered rightly: what paired figures are made
    of."""

    def as_dict(self) -> dict[str, Any]:
        """The row for machines, without the per-prompt column."""
        return {name: value for name, value in asdict(self).items() if name != "correct"}

    def measurements(self, task: str = "") -> list[Measurement]:
        """The row as tidy ones; a row that failed is one measurement, `error`, without a value."""
        about: dict[str, Any] = {name: getattr(self, name) for name in _ABOUT}
        if self.preset is not None:
            about["candidate"] = self.configuration
        shared: dict[str, Any] = {
            "method": self.method,
            "task": task,
            "layers": self.layers,
            "positions": self.positions,
            "shots": self.shots,
            "seed": self.seed,
            "configuration": self.preset or self.configuration,
        }
        if self.error is not None:
            return [Measurement(measure="error", value=None, about=about, **shared)]
        found = []
        for measure, ends in MEASURES.items():
            value = getattr(self, measure)
            if value is None:
                continue
            low, high = (getattr(self, end) for end in ends) if ends else (None, None)
            hits = {"correct": self.correct} if measure == "accuracy" else {}
            found.append(
                Measurement(
                    measure=measure, value=value, low=low, high=high, n=self.n, about=about | hits,
                    **shared,
                )
            )  # fmt: skip
        return found


def failed_row(
    method: str, seed: int, error: Exception, *, is_control: bool, preset: str | None = None
) -> ComparisonRow:
    """The row of a method that could not be run: it says why, and does not drop out."""
    return ComparisonRow(
        method=method,
        configuration=preset or "",
        layers=[],
        positions=[],
        strength=None,
        shots=0,
        seed=seed,
        selected=preset is None,
        preset=preset,
        preset_selected=preset is not None,
        is_control=is_control,
        error=str(error),
    )


def comparison_rows(rows: pd.DataFrame | Iterable[Mapping[str, Any]]) -> list[ComparisonRow]:
    """The wide rows again, from the tidy rows of one task and model.

    Args:
        rows: The record's table, or its rows as values.
    """
    tidy = rows_of(rows) if isinstance(rows, pd.DataFrame) else rows
    wide: list[dict[str, Any]] = []
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in tidy:
        names = ("method", "layers", "positions", "shots", "seed", "configuration", "candidate")
        key = tuple(row.get(name) for name in (*names, *_ABOUT))
        measure = row["measure"]
        # a candidate that was tested, or failed, begins with one of these; others have no accuracy
        if measure in ("accuracy", "error") or key not in latest:
            latest[key] = _first(row)
            wide.append(latest[key])
        line = latest[key]
        if measure == "error":
            continue
        value = row["value"]
        line[measure] = int(value) if measure in _COUNTS else value
        ends = MEASURES[measure]
        if ends is not None:
            line |= dict(zip(ends, (row.get("low"), row.get("high")), strict=True))
        if measure == "accuracy":
            line["correct"] = row.get("correct") or ""
    return [ComparisonRow(**line) for line in wide]


def _first(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a wide row has of each of its tidy ones."""
    whole = {name: None if row.get(name) is None else int(row[name]) for name in ("seed", "n")}
    return {
        "method": row["method"],
        "configuration": row["candidate"] if row.get("preset") else row["configuration"],
        "layers": json.loads(row["layers"]),
        "positions": json.loads(row["positions"]),
        "shots": int(row["shots"]),
        **whole,
        **{name: row.get(name) for name in _ABOUT},
    }
