"""Rows about learners as tables for people."""

from collections.abc import Callable, Sequence
from typing import Any

from taskvectors.cli.results import Table

_Texts = dict[str, Callable[[dict[str, Any]], str]]


def layer_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line per variant, seed and layer."""
    texts: _Texts = {
        "variant": lambda row: row["variant"],
        "seed": lambda row: str(row["seed"]),
        "layer": lambda row: "-" if row["layer"] is None else str(row["layer"]),
        "ICL error": _number("icl_error"),
        "zero-shot": _number("zero_shot_error"),
        "vector": _number("tvp_error"),
        "kept": _number("tvp_error_kept"),
        "mean of 16": _number("tvp_error_averaged"),
        "recovery": _number("recovery"),
        "other task's": _number("wrong_task_error"),
        "probe R²": _number("probe_r2"),
        "task share": _number("task_share"),
    }
    return _table(texts, rows, names={"variant"})


def shift_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line per shift, variant and seed."""
    texts: _Texts = {
        "shift": lambda row: row["shift"],
        "variant": lambda row: row["variant"],
        "seed": lambda row: str(row["seed"]),
        "ICL error": _number("icl_error"),
        "± se": _number("icl_standard_error"),
        "base": _number("base_error"),
        "optimal": _number("optimal_error"),
        "best vector": _best_vector,
    }
    order = {shift: number for number, shift in enumerate(dict.fromkeys(r["shift"] for r in rows))}
    return _table(texts, sorted(rows, key=lambda row: order[row["shift"]]), names={"variant"})


def trend_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line per shift."""
    texts: _Texts = {
        "error on l*, by shift": lambda row: row["shift"],
        "rank correlation": _number("correlation"),
        "p": _number("p_value"),
        "smallest p possible": _number("smallest_p_value"),
        "layers": lambda row: str(row["n_layers"]),
        "seeds": lambda row: str(row["n_seeds"]),
    }
    return _table(texts, rows, names=set())


def _number(name: str) -> Callable[[dict[str, Any]], str]:
    def text(row: dict[str, Any]) -> str:
        value = row.get(name)
        return "-" if value is None else f"{value:.3f}"

    return text


def _best_vector(row: dict[str, Any]) -> str:
    errors = row.get("tvp_error")
    if not errors:
        return "-"
    best = min(range(len(errors)), key=errors.__getitem__)
    return f"{errors[best]:.3f} at {best}"


def _table(texts: _Texts, rows: Sequence[dict[str, Any]], names: set[str]) -> Table:
    first = next(iter(texts))
    return Table(
        headings=tuple(texts),
        rows=[[text(row) for text in texts.values()] for row in rows],
        numbers=frozenset(texts) - names - {first},
    )
