"""What a verb gives, and how it is printed: an object for machines, tables and lines for people."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskvectors.format import printable

_WIDTH_OF_A_FILE = 1000
"""Columns where standard output is no terminal: more than any table has, so that none is folded."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in rows and columns; `numbers` names the columns that are set to the right."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a verb found.

    Attributes:
        data: One object for machines: plain names, and `rows` where there are several of a kind.
        shown: The same for people, from top to bottom.
    """

    data: Mapping[str, Any]
    shown: Sequence[str | Table]


def print_result(result: Result, *, as_json: bool) -> None:
    """Write a result to standard output."""
    if as_json:
        print(json.dumps(_plain(result.data), indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.text import Text

    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as drawn:  # rich itself would end the program where a reader has left
        for part in result.shown:
            if isinstance(part, Table):
                console.print(_drawn(part))
            else:
                lines = "\n".join(map(printable, part.split("\n")))
                console.print(Text(lines), soft_wrap=True)  # a path can be copied whole
    sys.stdout.write(drawn.get())


def _drawn(table: Table) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(table.headings):
        justify: Any = "right" if heading in table.numbers else "left"
        is_name = number == 0  # a name that is folded cannot be copied
        drawn.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=is_name)
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))  # as text: brackets are no markup
    return drawn


def _plain(value: Any) -> Any:
    """Numbers that are none (NaN, infinite) as null, and all else as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def duration(seconds: float | None) -> str:
    """A time span; an en dash where it is not known."""
    from taskvectors.format import ABSENT, SPACE
    from taskvectors.progress import format_duration

    return ABSENT if seconds is None else re.sub(r"(\d) ", rf"\1{SPACE}", format_duration(seconds))
