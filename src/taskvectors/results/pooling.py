"""Rows that stand for several: the choice among presets, differences to ICL, means."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from taskvectors.evaluate import paired_difference, pooled_interval
from taskvectors.results.pivot import ComparisonRow
from taskvectors.results.record import COLUMNS, OVER_TASKS, chosen


def with_one_selected(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows of a seed, where a method that was run in several ways keeps the best as selected.

    The best is so on validation; of equals it is the first.
    """
    best: dict[str, ComparisonRow] = {}
    for row in rows:
        if row.selected and not row.is_control and row.validation_accuracy is not None:
            rival = best.setdefault(row.method, row)
            if row.validation_accuracy > (rival.validation_accuracy or 0.0):
                best[row.method] = row
    return [
        replace(row, selected=False)
        if row.selected and row.validation_accuracy is not None and row is not best.get(row.method)
        else row
        for row in rows
    ]


def with_differences(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """The rows with their paired difference to ICL on the same seed's prompts, and pooled rows.

    A pooled row stands for a method's selected rows over all seeds, where there are several; each
    preset has one of its own.
    """
    rows = [row for row in rows if row.seed is not None]
    base = {row.seed: row for row in rows if row.method == "icl" and row.selected and row.correct}
    paired = [_compared(row, [row], [base[row.seed]]) if row.seed in base else row for row in rows]
    seeds = {row.seed for row in rows}
    if len(seeds) < 2:
        return paired
    pooled = []
    groups: dict[tuple[str, str | None], list[ComparisonRow]] = {}
    for row in rows:
        if row.correct and row.selected:
            groups.setdefault((row.method, None), []).append(row)
        if row.correct and row.preset_selected:
            groups.setdefault((row.method, row.preset), []).append(row)
    for (_, preset), ours in groups.items():
        if {row.seed for row in ours} == seeds:
            against = [base[row.seed] for row in ours if row.seed in base]
            pooled.append(_pooled(ours, against, preset))
    return paired + pooled


def _compared(
    row: ComparisonRow, ours: list[ComparisonRow], icl: list[ComparisonRow]
) -> ComparisonRow:
    if not ours[0].correct or len(icl) != len(ours):
        return row
    difference = paired_difference([_hits(r) for r in ours], [_hits(r) for r in icl])
    return replace(
        row,
        difference_to_icl=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
    )


def _pooled(
    chosen: list[ComparisonRow], icl: list[ComparisonRow], preset: str | None
) -> ComparisonRow:
    """One row for several seeds; its interval is `pooled_interval`'s."""
    n_prompts = sum(len(row.correct) for row in chosen)
    ci_low, ci_high = pooled_interval([_hits(row) for row in chosen])

    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in chosen]
        return None if None in values else sum(values) / len(values)

    averaged: dict[str, Any] = {
        name: mean(name)
        for name in (
            "accuracy", "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob",
            "validation_accuracy", "seconds", "seconds_per_step", "d_ntp",
        )
    }  # fmt: skip
    pooled = replace(
        chosen[0],
        configuration=", ".join(filter(None, (preset, f"all {len(chosen)} seeds"))),
        preset=preset,
        preset_selected=preset is not None,
        selected=preset is None,
        layers=list(dict.fromkeys(layer for row in chosen for layer in row.layers)),
        seed=None,
        n=n_prompts,
        ci_low=ci_low,
        ci_high=ci_high,
        strength=chosen[0].strength if len({row.strength for row in chosen}) == 1 else None,
        correct="",
        **averaged,
    )
    return _compared(pooled, chosen, icl)


def _hits(row: ComparisonRow) -> Any:
    return torch.tensor([mark == "1" for mark in row.correct])


def over_tasks(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows that stand for all tasks and seeds of a model: the mean of those that were selected.

    A measure has one where every task has it. The interval of an accuracy is a bootstrap in two
    stages, over tasks and seeds and over the prompts within them; other measures have none.
    Tokens of a lens have no mean.
    """
    if rows.empty:
        return []
    keys = ["experiment", "model", "method", "configuration", "measure"]
    kept = chosen(rows[rows["value"].notna()])
    if "text" in kept:
        kept = kept[kept["text"].isna()]
    found = []
    for names, part in kept.groupby(keys, sort=False):
        of_model = kept[kept["model"] == names[1]]
        wanted = set(zip(of_model["task"], of_model["seed"], strict=True))
        if len(part) != len(wanted) or set(zip(part["task"], part["seed"], strict=True)) != wanted:
            continue
        low, high = _interval(part)
        counts = part["n"].dropna()
        same = [name for name in part.columns if name not in _NOT_COMMON]
        same = [name for name in same if len(part) == 1 or part[name].nunique(dropna=False) == 1]
        found.append(
            dict(zip(keys, names, strict=True))
            | {name: part[name].iloc[0] for name in same}
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
    """The row's own interval if there is one row; otherwise a bootstrap over prompts."""
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
