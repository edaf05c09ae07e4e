"""A long table of measurements as cases: what tells its rows apart, and what each has of a measure.

What a case is follows from the rows: the columns that tell them apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from taskvectors.format import ABSENT
from taskvectors.report.table import NOTHING, SMALLEST, Cell, value_cell

MEASURED = ("measure", "value", "low", "high", "n", "smallest")
"""Columns that say what was measured; the others say of what."""
USUAL_KEYS = (
    "model", "task", "method", "configuration", "layers", "positions", "shots", "seed",
)  # fmt: skip
"""Columns that say what a case is; further ones do only where they have to."""

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Measurements by case and measure."""

    keys: tuple[str, ...]
    """Columns that tell cases apart."""
    throughout: Mapping[str, Cell]
    """Columns that hold one value in all rows."""
    measures: tuple[str, ...]
    found: Mapping[Key, Mapping[str, Cell]]
    """By case, then by measure."""
    cells: Mapping[Key, tuple[Cell, ...]]
    """What a case shows of its keys."""
    records: Mapping[Key, Mapping[str, Any]]
    """The first row of each case."""


def cases_of(
    rows: pd.DataFrame, leave_out: Iterable[str] = (), wanted: Sequence[str] = ()
) -> Cases:
    """Rows as cases.

    Args:
        rows: One row per measurement, in the order they are to be shown.
        leave_out: Columns that are not to tell cases apart.
        wanted: Columns beside the usual ones that say what a case is, needed or not.
    """
    leave_out = {*leave_out, *MEASURED, "experiment"}
    usual = [name for name in (*USUAL_KEYS, *wanted) if name in rows and name not in leave_out]
    shown, _ = over_seeds(rows, usual)
    records = [
        {str(name): value for name, value in row.items()} for row in shown.to_dict("records")
    ]
    columns = [str(name) for name in shown.columns if name not in leave_out]
    keys = _keys(usual, columns, records)
    texts = {name: {value_cell(name, record[name]).text for record in records} for name in keys}
    varying = tuple(name for name in keys if len(texts[name]) > 1)
    throughout = {
        name: value_cell(name, records[0][name])
        for name in keys
        if name not in varying and texts[name] - {ABSENT}
    }
    with_n = _n_tells(shown, records)
    found: dict[Key, dict[str, Cell]] = {}
    first: dict[Key, dict[str, Any]] = {}
    for number_, record in enumerate(records):
        key = _key(record, varying)
        if str(record["measure"]) in found.get(key, {}):  # told apart by nothing but its place
            key = (*key, str(number_))
        first.setdefault(key, record)
        found.setdefault(key, {})[str(record["measure"])] = measured(record, with_n=with_n)
    if not with_n and records and "n" in records[0]:
        throughout["n"] = value_cell("n", records[0]["n"])
    return Cases(
        keys=varying,
        throughout=throughout,
        measures=tuple(dict.fromkeys(str(record["measure"]) for record in records)),
        found=found,
        cells={key: tuple(value_cell(k, row[k]) for k in varying) for key, row in first.items()},
        records=first,
    )


def with_smallest(rows: pd.DataFrame) -> pd.DataFrame:
    """P-values with the smallest that their tests could give, in a column of its own."""
    is_smallest = rows["measure"].str.startswith(SMALLEST)
    if not is_smallest.any():
        return rows
    keys = [name for name in rows if name not in {"value", "low", "high", "n"}]
    smallest = rows.loc[is_smallest, [*keys, "value"]].rename(columns={"value": "smallest"})
    smallest["measure"] = smallest["measure"].str.removeprefix(SMALLEST)
    return rows[~is_smallest].merge(smallest.drop_duplicates(keys), how="left", on=keys)


def over_seeds(rows: pd.DataFrame, usual: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Rows over all seeds in place of those of single seeds, and how many these are.

    Args:
        rows: One row per measurement.
        usual: Columns that say what a case is.
    """
    if "seed" not in rows or rows["seed"].isna().all() or not rows["seed"].isna().any():
        return rows, 0
    by = [name for name in (*usual, "measure") if name != "seed"]
    keys = rows.groupby(by, dropna=False).ngroup()
    pooled = rows["seed"].isna()
    replaced = ~pooled & keys.isin(set(keys[pooled]))
    return rows[~replaced], int(replaced.sum())


def _keys(
    usual: list[str], columns: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """The usual keys, and as many further columns as it takes to tell the rows apart."""

    def n_distinct(names: Sequence[str]) -> int:
        return len({_key(record, (*names, "measure")) for record in records})

    def is_measured(name: str) -> bool:
        return any(isinstance(record[name], float) for record in records)

    keys = list(usual)
    for name in sorted(columns, key=is_measured):  # a name or a number of something comes first
        if n_distinct(keys) == len(records):
            break
        if name not in keys and n_distinct([*keys, name]) > n_distinct(keys):
            keys.append(name)
    return tuple(keys)


def _key(record: Mapping[str, Any], names: Sequence[str]) -> Key:
    return tuple(value_cell(name, record[name]).text for name in names)


def _n_tells(rows: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether values are of different numbers of items."""
    return "n" in rows and len({value_cell("n", record["n"]).text for record in records}) > 1


def measured(record: Mapping[str, Any], *, with_n: bool) -> Cell:
    """A value with its interval, and with how many items it is of where that differs.

    What a lens reads is its tokens. A p-value stands with the smallest that its test could give.
    """
    if value_cell("text", record.get("text")) is not NOTHING:
        return value_cell("text", record["text"])
    measure = str(record["measure"])
    more = (record.get(name) for name in ("low", "high", "smallest"))
    cell = value_cell(measure, record["value"], *more)
    n = value_cell("n", record.get("n"))
    if with_n and n is not NOTHING and cell is not NOTHING:
        return replace(cell, interval=f"{cell.interval} n = {n.text}".strip())
    return cell
