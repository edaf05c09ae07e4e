"""A table as rows of cells: what every table of numbers on a page, or in a paper, is drawn from.

A cell carries what it sorts by beside its text. Nothing is left out without being named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from taskvectors.format import ABSENT, MINUS, memory
from taskvectors.report.old.run import plain

_SHARES = (
    "accuracy", "ci_low", "ci_high", "in_label_set", "difference", "share", "cosine", "probability",
    "recover", "mass", "r2",
)  # fmt: skip
"""Parts of the names of columns, and of measures, that are shares, or differences of them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    is_number: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its text, what it sorts by, and the interval below it."""

    text: str
    sort: str
    is_number: bool
    interval: str = ""


NOTHING = Cell(text=ABSENT, sort="", is_number=False)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table.

    Attributes:
        name: Short name, one on a page.
        title: What it shows.
        columns: From left to right.
        cells: Row by row.
        before: Remarks above it.
        after: Remarks below it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def grid_of(name: str, title: str, frame: pd.DataFrame, **remarks: tuple[str, ...]) -> Grid:
    """A frame as it is, under the names of its columns."""
    columns = {str(key): [cell_of(str(key), value) for value in frame[key]] for key in frame}
    return Grid(
        name=name,
        title=title,
        columns=tuple(
            Column(name=key, is_number=any(cell.is_number for cell in cells))
            for key, cells in columns.items()
        ),
        cells=tuple(zip(*columns.values(), strict=True)),
        **remarks,
    )


def without_empty(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame without the columns that hold no value in any row, and their names."""
    empty = [key for key in frame if all(cell_of(str(key), v) is NOTHING for v in frame[key])]
    return frame.drop(columns=empty), tuple(map(str, empty))


def cell_of(column: str, raw: object) -> Cell:
    """A value as a cell, by the name of its column."""
    value = plain(column, raw)
    if value is None or value == ():
        return NOTHING
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no", sort=str(int(value)), is_number=False)
    if isinstance(value, tuple):
        return _list_cell(value)
    if isinstance(value, int | float):
        return Cell(text=number(column, value), sort=repr(value), is_number=True)
    return Cell(text=str(value), sort=str(value), is_number=False)


def number(column: str, value: float) -> str:
    """A number, by the name of its column."""
    if any(part in column for part in _SHARES):
        text = f"{value:.3f}"
        text = text.lstrip("-") if float(text) == 0 else text
    elif column.endswith("_bytes"):
        text = memory(value)
    elif isinstance(value, int) or value.is_integer():
        # a seed is a name, not an amount
        text = f"{value:.0f}" if column == "seed" else f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", MINUS) if text.startswith("-") else text


def plain_texts(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Headings and rows as text, an interval behind its number."""
    rows = [[f"{cell.text} {cell.interval}".strip() for cell in row] for row in grid.cells]
    return [column.name for column in grid.columns], rows


def _list_cell(values: Iterable[int | str]) -> Cell:
    items: Sequence[int | str] = list(values)
    alone = str(items[0]) if len(items) == 1 and isinstance(items[0], int) else ""
    text = ", ".join(str(item) for item in items)
    # one number sorts as a number; `embed` lies below layer 0
    sort = alone or ("-1" if items == ["embed"] else text)
    return Cell(text=text.replace("-", MINUS), sort=sort, is_number=False)
