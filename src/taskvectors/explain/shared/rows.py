"""Rows of a result: as a table, as points of a figure, as columns with their interval."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from taskvectors.evaluate.statistics import Difference
from taskvectors.explain.shared.shares import Share
from taskvectors.results.figures import Series, Style

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def table(rows: "Iterable[DataclassInstance]", **constants: Any) -> pd.DataFrame:
    """Rows as a table.

    Args:
        rows: Dataclasses of one kind.
        constants: Further columns, the same in each row.
    """
    return pd.DataFrame([asdict(row) for row in rows]).assign(**constants)


def points(  # noqa: PLR0913  (where, what, how)
    label: str,
    places: Iterable[float],
    rows: Sequence[object],
    style: Style,
    *,
    value: str = "accuracy",
    ends: tuple[str, str] | None = ("ci_low", "ci_high"),
    kind: Literal["line", "point"] = "point",
) -> Series:
    """A number of some rows, with its interval.

    Args:
        label: What they are.
        places: Where each stands on the x axis.
        rows: The rows.
        style: How they are drawn.
        value: Field of the number.
        ends: Fields of its interval, if it has one.
        kind: Points, or a line through them.
    """

    def column(name: str) -> tuple[Any, ...]:
        return tuple(getattr(row, name) for row in rows)

    low, high = map(column, ends) if ends else ((), ())
    return Series(
        label=label, x=tuple(map(float, places)), y=column(value), low=low, high=high, style=style,
        kind=kind,
    )  # fmt: skip


def columns(name: str, found: Share | Difference | None) -> dict[str, Any]:
    """A number and its interval as fields; none of them where there is no number.

    Example:
        >>> columns("gain", Share(value=0.5, low=0.4, high=0.6))
        {'gain': 0.5, 'gain_low': 0.4, 'gain_high': 0.6}
    """
    if found is None:
        return {}
    value = found.value if isinstance(found, Share) else found.mean
    ends = "ci" if name == "accuracy" else name
    return {name: value, f"{ends}_low": found.low, f"{ends}_high": found.high}
