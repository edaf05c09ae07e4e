"""Which rows speak for a method, and how a method stands over the seeds of a run.

Choices are made on the validation split only. Over several seeds a method is summed up by its mean
and its range: test splits of different seeds share items, so they are not one large sample; a
pooled row's interval is a bootstrap over seeds and items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from taskvectors.report.old.run import BASELINES, Measurement, Run

SUBJECTS = ("learned", "vanilla")
"""The methods a report is about, most wanted first; any other vector method comes after them."""

NULL_CONTROLS = ("majority", "random", "other-task", "shuffled-labels", "logit-bias")
"""Controls that a vector which works has to stand above."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A method in a sentence: its selected row, or the mean of them over seeds.

    Attributes:
        first: The selected row, or that of the first seed; what the vector looks like.
        rows: One selected row per seed.
        accuracy: Mean over seeds.
        low: Lower end of the 95 % interval, or the lowest seed.
        high: Upper end, likewise.
    """

    first: Measurement
    rows: tuple[Measurement, ...]
    accuracy: float
    low: float | None
    high: float | None

    @property
    def seeds(self) -> int:
        """How many seeds it stands on."""
        return len(self.rows)


def chosen_rows(run: Run) -> list[Measurement]:
    """Rows of the main table, by method: selected and failed ones, controls left out.

    Over several seeds a method's pooled row stands for all of them; each seed's rows are in the
    full table.
    """
    rows = [row for row in run.measurements if not row.is_control and (row.selected or row.error)]
    rows = [row for row in rows if row.error or row.method not in run.pooled]
    rows += [row for row in run.pooled.values() if not row.is_control]
    order = list(dict.fromkeys(row.method for row in rows))
    return sorted(rows, key=lambda row: order.index(row.method))


def standing(run: Run, method: str) -> Standing | None:
    """How a method did on the test split, or nothing where it has no usable selected row."""
    by_seed: dict[int | None, Measurement] = {}
    for row in run.measurements:
        if row.method != method or row.error or row.accuracy is None:
            continue
        if not (row.selected or row.is_control):
            continue
        held = by_seed.get(row.seed)
        if held is None or _validated(row) > _validated(held):
            by_seed[row.seed] = row
    rows = tuple(by_seed.values())
    return _summary(rows) if rows else None


def subject(run: Run) -> Standing | None:
    """The vector the report is about: learned, else vanilla, else any other that was measured."""
    others = [
        row.method for row in run.measurements if not row.is_control and row.method not in BASELINES
    ]
    for method in dict.fromkeys((*SUBJECTS, *others)):
        found = standing(run, method)
        if found is not None:
            return found
    return None


def is_below(standing: Standing, other: Standing) -> bool:
    """Whether a method's whole interval (or range over seeds) lies below another's."""
    if standing.high is None or other.low is None:
        return False
    return standing.high < other.low


def seeds_of(run: Run) -> list[int]:
    """The distinct seeds of a run's rows."""
    return sorted({row.seed for row in run.measurements if row.seed is not None})


def _validated(row: Measurement) -> float:
    return -1.0 if row.validation_accuracy is None else row.validation_accuracy


def _summary(rows: Sequence[Measurement]) -> Standing:
    shares = [row.accuracy for row in rows if row.accuracy is not None]
    one = len(rows) == 1
    return Standing(
        first=rows[0],
        rows=tuple(rows),
        accuracy=sum(shares) / len(shares),
        low=rows[0].ci_low if one else min(shares),
        high=rows[0].ci_high if one else max(shares),
    )
