"""The wide rows of an evaluation: one strength a row, a column for each measure.

They are the documented form of `evaluate --json`. The record holds the same numbers as tidy rows.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from taskvectors.results.columns import Ends
from taskvectors.results.record import Measurement, rows_of

ALWAYS: dict[str, Ends] = {
    "accuracy": ("ci_low", "ci_high"),
    "first_token_accuracy": None,
    "label_accuracy": None,
    "in_label_set": None,
    "answer_logprob": None,
}
"""Measures of every row, with the columns of their interval."""
ELSEWHERE = ("kl", "kl_first", "perplexity_plain", "perplexity", "n_tokens")
"""Measures on unrelated text, where they were asked for."""


def evaluation_measurements(row: Mapping[str, Any]) -> list[Measurement]:
    """A wide row as tidy ones."""
    found = []
    for name, ends in (ALWAYS | dict.fromkeys(ELSEWHERE)).items():
        if row.get(name) is None:
            continue
        low, high = (row[end] for end in ends) if ends else (None, None)
        found.append(
            Measurement(
                measure=name, value=row[name], low=low, high=high,
                n=row["n"] if name in ALWAYS else None, method=row["method"], layers=row["layers"],
                positions=row["positions"], shots=row["shots"], about={"strength": row["strength"]},
            )
        )  # fmt: skip
    return found


def evaluation_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The wide rows again."""
    wide: dict[float, dict[str, Any]] = {}
    for row in rows_of(frame):
        line = wide.setdefault(
            row["strength"],
            {
                "method": row["method"],
                "layers": json.loads(row["layers"]),
                "positions": json.loads(row["positions"]),
                "shots": row["shots"],
                "strength": row["strength"],
                "n": row["n"],
                **dict.fromkeys(ALWAYS),
            },
        )
        name = row["measure"]
        line[name] = int(row["value"]) if name == "n_tokens" else row["value"]
        ends = ALWAYS.get(name)
        if ends is not None:
            line |= dict(zip(ends, (row["low"], row["high"]), strict=True))
    return list(wide.values())
