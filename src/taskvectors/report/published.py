"""Published values beside ours: under the same keys, with source and model; nothing is derived."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from taskvectors.format import ABSENT, in_words, number
from taskvectors.report.table import Cell, Column, Table, plain, value_cell
from taskvectors.results.record import NOT_READ, OVER_TASKS, Published


@dataclass(frozen=True, kw_only=True, eq=False)
class Beside:
    """A published value under the keys that our rows have."""

    published: Published
    keys: Mapping[str, str]
    model: str


def for_rows(published: Sequence[Published], rows: pd.DataFrame) -> list[Beside]:
    """Published values under the keys that our rows have.

    One of a task that is not ours stands beside any of ours, and names its own.
    """
    tasks = set(map(str, rows["task"])) if "task" in rows else set[str]()
    found = []
    for one in published:
        keys = dict(one.keys)
        task = str(keys.get("task", ""))
        if task and task not in tasks:
            del keys["task"]
        model = f"{one.model}, {task}" if task not in {"", *tasks, OVER_TASKS} else one.model
        found.append(Beside(published=one, keys=keys, model=model))
    return found


def published_cell(
    published: Sequence[Beside], measure: str, record: Mapping[str, Any], placed: set[int]
) -> Cell | None:
    """What was published under a row's keys, as one cell."""
    here = [
        one
        for one in published
        if one.published.measure == measure
        and one.published.value != NOT_READ
        and _has_keys(record, one.keys)
    ]
    if not here:
        return None
    placed.update(id(one) for one in here)
    text = "; ".join(f"{_value(one.published)} ({one.model})" for one in here)
    return Cell(text=text, sort=str(here[-1].published.value))


def _value(one: Published) -> str:
    is_number = isinstance(one.value, int | float)
    return number(one.measure, float(one.value)) if is_number else str(one.value)


def sources(published: Sequence[Beside], placed: set[int]) -> tuple[str, ...]:
    """Where the values come from that stand beside ours, and which were not read."""
    if not published:
        return ()
    read = [one for one in published if id(one) in placed]
    said = []
    for one in read:
        note = f" ({in_words(one.published.measure)}: {one.published.note})"
        said.append(
            f"Published values of {one.model}: {one.published.source}"
            f"{note if one.published.note else ''}."
        )
    said += [
        f"Published values of {in_words(one.published.measure)}: not read ({one.published.source})."
        for one in published
        if one.published.value == NOT_READ
    ]
    return tuple(dict.fromkeys(said))


def _has_keys(record: Mapping[str, Any], keys: Mapping[str, str]) -> bool:
    return all(_has(record, name, value) for name, value in keys.items())


def _has(record: Mapping[str, Any], name: str, value: str) -> bool:
    if name == "layers":
        n_layers = len(plain(name, record.get(name)) or ())
        return n_layers == 1 if value == "one" else n_layers > 1
    return value_cell(name, record.get(name)).text == value


def alone(left: Sequence[Beside]) -> list[Table]:
    """Published values without a counterpart."""
    if not left:
        return []
    rows = []
    for one in left:
        where = ", ".join(f"{in_words(name)} {value}" for name, value in one.keys.items())
        value = one.published
        texts = (where or ABSENT, in_words(value.measure), _value(value), one.model, value.source)
        rows.append(tuple(Cell(text=text) for text in texts))
    names = ("published for", "measure", "value", "model", "source")
    return [
        Table(
            name="published-alone",
            title="Published, with nothing of ours beside it",
            columns=tuple(Column(name=name, is_number=name == "value") for name in names),
            rows=tuple(rows),
        )
    ]
