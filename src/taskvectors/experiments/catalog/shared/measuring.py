"""Rows of results made from what was right and what was not."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from taskvectors.evaluate import paired_difference, wilson_interval
from taskvectors.results import Measurement


def share(
    row: Measurement, measure: str, hits: Bool[Tensor, " prompt"] | Sequence[bool]
) -> Measurement:
    """A row with the share of hits as its value, and the Wilson interval of it."""
    right, n = int(sum(hits)), len(hits)
    low, high = wilson_interval(right, n)
    return replace(row, measure=measure, value=right / n, low=low, high=high, n=n)


def difference(
    row: Measurement,
    measure: str,
    hits: Bool[Tensor, " prompt"],
    base: Bool[Tensor, " prompt"],
    seed: int,
) -> Measurement:
    """A row with the paired difference of two shares as its value, and its interval."""
    found = paired_difference([hits], [base], seed=seed)
    return replace(
        row, measure=measure, value=found.mean, low=found.low, high=found.high, n=len(hits)
    )
