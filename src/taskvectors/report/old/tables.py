"""The tables of a comparison's report as rows of text, ready to be laid out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from taskvectors.format import (
    ABSENT,
    after_layers,
    at_positions,
    percent,
    percent_range,
    points,
    points_range,
    whole,
)
from taskvectors.report.old.grid import Grid, cell_of, grid_of, without_empty
from taskvectors.report.old.run import AnsweredItem, Measurement, Run
from taskvectors.report.old.standing import NULL_CONTROLS, Standing, chosen_rows, seeds_of, subject
from taskvectors.report.old.wording import duration, method_name

_PURPOSES = {
    "majority": "Always the most frequent answer of the training items. Rules out that the score "
    "comes from an uneven mix of answers.",
    "random": "A random vector of the same norm at the same place. Rules out that any push of this "
    "size does it.",
    "other-task": "A vector made for another task. Rules out that any task's vector does it.",
    "shuffled-labels": "The same learning on answers dealt out at random. Rules out that the "
    "vector only carries what answers look like.",
    "logit-bias": "One constant added to the logits, fitted on the same data and blind to the "
    "query. Rules out that favouring some answers is enough.",
    "icl-most-shots": "As many demonstrations as the context holds. Shows whether more of them "
    "would have caught up.",
    "learned-from-shots": "Learned from no more examples than the demonstrations show. Shows how "
    "much is owed to the other examples.",
}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An interval on a scale from 0 to 100; `low` and `high` are equal where there is none."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A row of the main table or of the controls.

    Attributes:
        method: Short name.
        name: Name for people.
        where: Layers, positions and shots.
        seed: Seed, where the run has several.
        accuracy: With one decimal.
        interval: 95 % interval, or nothing.
        bar: The same as a picture, or nothing.
        difference: From demonstrations, in points.
        difference_interval: Its interval, or nothing.
        examples: How many examples the method used.
        parameters: How many numbers it has.
        seconds: What it took.
        n: How many test items.
        is_subject: Whether the report is about this row.
        converged: Whether learning had come to rest; nothing where there was no learning.
        note: Remark of the run.
        error: Why the row has no numbers.
        purpose: What a control is, and what it rules out.
        sort: What a column sorts by, where it is not its text.
        outcome: Where the control stands; `status` is `yes`, `no`, `open` or nothing.
        status: See `outcome`.
    """

    method: str
    name: str
    where: str
    seed: str
    accuracy: str
    interval: str
    bar: Bar | None
    difference: str
    difference_interval: str
    examples: str
    parameters: str
    seconds: str
    n: str
    is_subject: bool
    converged: bool | None
    note: str
    error: str
    sort: Mapping[str, str]
    purpose: str = ""
    outcome: str = ""
    status: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one method said to one item."""

    text: str
    is_correct: bool | None


@dataclass(frozen=True, kw_only=True)
class ExampleRow:
    """One test item, and what each method said, in the order of the columns."""

    input: str
    answer: str
    said: tuple[Answer, ...]


def main_rows(run: Run) -> list[MethodRow]:
    """The selected row of every method, and the rows that failed."""
    main = subject(run)
    return [_method_row(run, row, main) for row in chosen_rows(run)]


def control_rows(run: Run) -> list[MethodRow]:
    """Every control, with what it rules out."""
    main = subject(run)
    rows = [row for row in run.measurements if row.is_control]
    order = list(_PURPOSES)
    rows.sort(key=lambda row: order.index(row.method) if row.method in order else len(order))
    methods = [row.method for row in rows]
    made = [_method_row(run, row, main) for row in rows]
    return [
        replace(row, purpose=row.purpose and "as above") if row.method in methods[:index] else row
        for index, row in enumerate(made)
    ]


def full_table(run: Run) -> tuple[Grid, tuple[str, ...]]:
    """All measurements of a run under their own names, and the columns that hold no value."""
    filled, empty = without_empty(run.rows)
    return grid_of("rows", "All measurements", filled), empty


def example_rows(run: Run) -> tuple[list[str], list[ExampleRow]]:
    """The methods that answered, before and after first, and the items."""
    methods = list(dict.fromkeys(name for item in run.examples for name in item.predictions))
    methods.sort(key=lambda name: {"zero-shot": 0, "learned": 1}.get(name, 2))
    return methods, [
        ExampleRow(
            input=item.input,
            answer=item.answer,
            said=tuple(_answer(item, method) for method in methods),
        )
        for item in run.examples
    ]


def example_summary(run: Run) -> str:
    """How many items the vector turned right and wrong, or nothing where that is not known."""
    both = [
        (item.correct["zero-shot"], item.correct["learned"])
        for item in run.examples
        if {"zero-shot", "learned"} <= item.correct.keys()
    ]
    if not both:
        return ""
    counts = Counter(both)
    return (
        f"Of the {len(both)} items listed, the learned vector turns "
        f"{counts[False, True]} from wrong to right and {counts[True, False]} from right to "
        f"wrong; {counts[True, True]} right and {counts[False, False]} wrong ones stay so."
    )


def _method_row(run: Run, row: Measurement, main: Standing | None) -> MethodRow:
    outcome, status = _outcome(row, main)
    return MethodRow(
        method=row.method,
        name=method_name(row.method),
        where=_where(row),
        seed=_seed(run, row),
        accuracy=percent(row.accuracy, 1),
        interval=percent_range(row.ci_low, row.ci_high, 1),
        bar=_bar(row),
        difference=points(row.difference_to_icl, 1),
        difference_interval=points_range(row.difference_low, row.difference_high, 1),
        examples=whole(row.examples),
        parameters=whole(row.parameters),
        seconds=duration(row.seconds),
        n=whole(row.n),
        is_subject=main is not None and row.method == main.first.method and row.selected,
        converged=row.converged,
        note=row.note or "",
        error=row.error or "",
        sort=_sorted_by(row),
        purpose=_PURPOSES.get(row.method, "") if row.is_control else "",
        outcome=outcome,
        status=status,
    )


def _sorted_by(row: Measurement) -> dict[str, str]:
    values = {
        "seed": row.seed,
        "accuracy": row.accuracy,
        "difference": row.difference_to_icl,
        "examples": row.examples,
        "parameters": row.parameters,
        "seconds": row.seconds,
        "n": row.n,
    }
    return {name: cell_of(name, value).sort for name, value in values.items()}


def _seed(run: Run, row: Measurement) -> str:
    """Which seed a row is of, where the run has several."""
    if len(seeds_of(run)) < 2:
        return ""
    return "all" if row.seed is None else f"{row.seed}"


def _where(row: Measurement) -> str:
    shots = f"{row.shots} shots" if row.shots and row.shots > 1 else "1 shot" if row.shots else ""
    parts = [after_layers(row.layers), at_positions(row.positions) if row.layers else "", shots]
    return ", ".join(part for part in parts if part)


def _bar(row: Measurement) -> Bar | None:
    if row.accuracy is None:
        return None
    low = row.accuracy if row.ci_low is None else row.ci_low
    high = row.accuracy if row.ci_high is None else row.ci_high
    return Bar(low=100 * low, value=100 * row.accuracy, high=100 * high)


def _outcome(row: Measurement, main: Standing | None) -> tuple[str, str]:
    """Where a control stands beside the vector, judged by their intervals."""
    if not row.is_control or row.error or main is None:
        return "", ""
    rival = next((held for held in main.rows if held.seed == row.seed), main.first)
    is_below = _lies_below(row, rival)
    if row.method not in NULL_CONTROLS:
        if is_below or _lies_below(rival, row):
            return f"{'below' if is_below else 'above'} the vector", ""
        return "about level with the vector", ""
    if is_below:
        return "ruled out", "yes"
    if row.accuracy is not None and rival.accuracy is not None and row.accuracy < rival.accuracy:
        return "not clearly ruled out: the intervals overlap", "open"
    return "not ruled out: the control does as well", "no"


def _lies_below(row: Measurement, other: Measurement) -> bool:
    """Whether a row's whole interval is below another's."""
    return row.ci_high is not None and other.ci_low is not None and row.ci_high < other.ci_low


def _answer(item: AnsweredItem, method: str) -> Answer:
    text = item.predictions.get(method)
    if text is None:
        return Answer(text=ABSENT, is_correct=None)
    return Answer(text=text.strip() or "(nothing)", is_correct=item.correct.get(method))
