"""A table: what every table of numbers on a page, in a terminal or in a paper is drawn from.

A cell carries what it sorts by and its interval beside its text. `table.html` draws it for a page;
`markdown` and `latex` write it for other documents.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from taskvectors.format import ABSENT, MINUS, SPACE, in_words, interval, number, printable

SMALLEST = "smallest_"
"""How the name of a measure begins that is the smallest p-value which the other could have."""
DECIDES = 0.05
"""A test whose smallest p-value lies above decides nothing."""
_LISTS = frozenset({"layers", "positions"})


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    is_number: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An interval on a scale from 0 to 1; `low` and `high` are equal where there is none."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell.

    Attributes:
        text: What it says.
        sort: What it sorts by; the text by default.
        is_number: Whether it is set to the right.
        interval: The interval of a number, in brackets.
        detail: A second line in small letters.
        mark: Whether what it says is right, wrong or open.
        bar: The number as a picture, on a page.
    """

    text: str
    sort: str | None = None
    is_number: bool = False
    interval: str = ""
    detail: str = ""
    mark: Literal["", "yes", "no", "open"] = ""
    bar: Bar | None = None

    @property
    def sort_key(self) -> str:
        """What it sorts by."""
        return self.text if self.sort is None else self.sort

    @property
    def plain(self) -> str:
        """Its text in one line, the interval behind the number."""
        mark = {"": "", "yes": "✓", "no": "✗", "open": "?"}[self.mark]
        detail = f"({self.detail})" if self.detail else ""
        parts = (mark, self.text, self.interval, detail)
        return printable(" ".join(part for part in parts if part))


NOTHING = Cell(text=ABSENT, sort="")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: Short name, one on a page.
        title: What it shows.
        columns: From left to right.
        rows: From top to bottom, a cell for each column.
        before: Remarks above it.
        after: Remarks below it.
        strong: Numbers of the rows that the page is about.
        line: Where bars have a line to compare with, as a share.
        is_folded: Whether a page shows it only when asked.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    strong: frozenset[int] = frozenset()
    line: float | None = None
    is_folded: bool = False

    @property
    def headings(self) -> list[str]:
        """Names of its columns."""
        return [printable(column.name) for column in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        """Its rows as text, an interval behind its number."""
        return [[cell.plain for cell in row] for row in self.rows]


def table_of(name: str, title: str, columns: Mapping[str, Sequence[Cell]], **more: Any) -> Table:
    """A table from its columns; columns without any value are left out."""
    kept = {n: cells for n, cells in columns.items() if any(c.text != ABSENT for c in cells)}
    return Table(
        name=name,
        title=title,
        columns=tuple(
            Column(name=n, is_number=any(cell.is_number for cell in cells))
            for n, cells in kept.items()
        ),
        rows=tuple(zip(*kept.values(), strict=True)),
        **more,
    )


def names_and_values(name: str, title: str, pairs: Iterable[tuple[str, str]], **more: Any) -> Table:
    """A table of two columns."""
    return Table(
        name=name,
        title=title,
        columns=(Column(name="what"), Column(name="value")),
        rows=tuple((Cell(text=what), Cell(text=value)) for what, value in pairs),
        **more,
    )


def frame_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    ends: Mapping[str, Any] | None = None,
    heading: Callable[[str], str] = in_words,
    **more: Any,
) -> Table:
    """A frame as it is, an interval behind its number; columns without any value are left out.

    Args:
        name: Short name.
        title: What it shows.
        frame: The rows.
        ends: The columns of the interval's ends, by the column of the number.
        heading: What makes the heading of a column's name.
        more: Further fields of the table.
    """
    ends = {key: pair for key, pair in (ends or {}).items() if pair and {*pair} <= {*frame}}
    joined = {end for pair in ends.values() for end in pair}
    joined |= {key for key in map(str, frame) if key.startswith(SMALLEST)}
    records = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]

    def cell(key: str, row: Mapping[str, Any]) -> Cell:
        low, high = ends.get(key, ("", ""))
        is_measured = key == "value" and "measure" in row
        called = str(row["measure"]) if is_measured else key
        smallest = row.get("smallest" if is_measured else SMALLEST + key)
        return value_cell(called, row[key], row.get(low), row.get(high), smallest)

    columns = {
        heading(key): [cell(key, row) for row in records]
        for key in map(str, frame)
        if key not in {*joined, "smallest"}
    }
    return table_of(name, title, columns, **more)


def value_cell(
    name: str, raw: Any, low: Any = None, high: Any = None, smallest: Any = None
) -> Cell:
    """A value as a cell.

    Args:
        name: Of its column or measure.
        raw: The value, as pandas or JSON holds it.
        low: Lower end of its interval.
        high: Upper end.
        smallest: The smallest value it could have, for a p-value.
    """
    value, low, high, smallest = (plain(name, one) for one in (raw, low, high, smallest))
    if value is None or value == ():
        return NOTHING
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no", sort=str(int(value)))
    if isinstance(value, tuple):
        return _list_cell(value)
    if not isinstance(value, int | float):
        return Cell(text=str(value))
    if smallest is not None:
        nothing = ": decides nothing" if smallest > DECIDES else ""
        return Cell(
            text=number(name, value),
            sort=repr(value),
            is_number=True,
            interval=f"smallest possible {number(name, smallest)}{nothing}",
        )
    ends = "" if low is None or high is None else interval(name, low, high)
    return Cell(
        text=number(name, value, low, high), sort=repr(value), is_number=True, interval=ends
    )


def plain(name: str, value: Any) -> Any:
    """A value of a table as a plain one: None for what is absent, a tuple for a list.

    Args:
        name: Of its column; lists are stored as JSON text, since parquet has no column of mixed
            types.
        value: What the table holds.
    """
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        value = value.tolist()
    # an analysis may have a column of that name with a word in it, such as `last`
    if name in _LISTS and isinstance(value, str) and value.startswith("["):
        value = json.loads(value)
    if isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or pd.isna(value) else value


def _list_cell(items: Sequence[int | str]) -> Cell:
    alone = str(items[0]) if len(items) == 1 and isinstance(items[0], int) else ""
    text = ", ".join(str(item) for item in items)
    # one number sorts as a number; `embed` lies below layer 0
    sort = alone or ("-1" if list(items) == ["embed"] else text)
    return Cell(text=text.replace("-", MINUS), sort=sort)


# --- writers


def markdown(table: Table) -> str:
    """A table for Markdown: pipes, and nothing that its renderer takes for markup."""
    rules = ["--:" if column.is_number else "---" for column in table.columns]
    lines = [list(map(markdown_text, table.headings)), rules]
    lines += [list(map(markdown_text, row)) for row in table.texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """Text in which Markdown sees no markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))


def latex(table: Table) -> str:
    """A table for LaTeX with booktabs, as a float with caption and label."""
    form = "".join("r" if column.is_number else "l" for column in table.columns)
    rows = [table.headings, *table.texts]
    heading, *body = (" & ".join(map(latex_text, row)) + r" \\" for row in rows)
    caption = latex_text(" ".join([f"{table.title}.", *table.before, *table.after]))
    label = re.sub(r"[^\w-]", "-", table.name, flags=re.ASCII)
    return "\n".join(
        (
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule", heading, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        )
    )  # fmt: skip


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    MINUS: "$-$", SPACE: "~", ABSENT: "--", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "✓": r"$\surd$", "✗": r"$\times$", "²": "$^2$", "“": "``", "”": "''", "[": "{[}", "]": "{]}",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text in which LaTeX sees no command.

    A bracket is in braces: after the end of a row it would be a distance.
    """
    return "".join(_LATEX.get(character, character) for character in printable(text))
