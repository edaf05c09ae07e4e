"""Rows that several analyses share: one number, of what, at which layer, with its interval."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from taskvectors.evaluate import wilson_interval
from taskvectors.explain.shared.analysis import Line
from taskvectors.results import Columns
from taskvectors.results.figures import GREY, Series, Style

COLUMNS = Columns(keys=("layer", "around", "at", "text"), measures={"value": ("low", "high")})
"""Of every table of these rows: `measure` names the number."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of an analysis by layer."""

    layer: int
    around: str
    """What it was measured on: `vector`, or a control."""
    measure: str
    value: float
    low: float | None = None
    """Lower end of a 95 % interval or, for random vectors, of their middle 95 %."""
    high: float | None = None
    at: float | None = None
    """A strength or a noise scale, where the number belongs to one."""
    n: int | None = None
    """Prompts or draws behind it."""
    text: str | None = None
    """A token, where the row is about one."""


def share(layer: int, around: str, measure: str, hits: int, n: int) -> Measured:
    """A share of prompts, with its Wilson interval."""
    low, high = wilson_interval(hits, n)
    return Measured(
        layer=layer, around=around, measure=measure, value=hits / n, low=low, high=high, n=n
    )


def measured_line(label: str, measure: str, around: str = "vector") -> Line:
    """A number of these tables, for a summary."""
    return Line(
        label=label, of={"measure": measure, "around": around}, value="value", low="low",
        high="high", style=GREY,
    )  # fmt: skip


def of_first_layer(*says: Callable[[pd.DataFrame], str]) -> Callable[[pd.DataFrame], str]:
    """A summary of the rows of the first layer alone."""

    def say(rows: pd.DataFrame) -> str:
        first = rows[rows["layer"] == rows["layer"].iloc[0]]
        return f"layer {first['layer'].iloc[0]:.0f}: {'; '.join(one(first) for one in says)}"

    return say


def frame_of(rows: Iterable[Measured]) -> pd.DataFrame:
    """Rows as a table."""
    columns = list(Measured.__dataclass_fields__)
    return pd.DataFrame([asdict(row) for row in rows], columns=columns)


def find(rows: Iterable[Measured], measure: str, around: str = "vector") -> dict[int, Measured]:
    """The rows of one measure, by layer; where there are several of a layer, the first."""
    found: dict[int, Measured] = {}
    for row in rows:
        if row.measure == measure and row.around == around:
            found.setdefault(row.layer, row)
    return found


def line(rows: Iterable[Measured], measure: str, around: str, label: str, style: Style) -> Series:
    """A measure over the layers, with its intervals where all of them are known."""
    found = find(rows, measure, around)
    layers = sorted(found)
    ends = [(found[layer].low, found[layer].high) for layer in layers]
    has_range = all(None not in pair for pair in ends)
    return Series(
        label=label,
        x=tuple(layers),
        y=tuple(found[layer].value for layer in layers),
        low=tuple(low for low, _ in ends) if has_range else (),
        high=tuple(high for _, high in ends) if has_range else (),
        style=style,
    )
