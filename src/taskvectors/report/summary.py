"""What a comparison says in two sentences: the result, and how it stands beside demonstrations.

The same rules hold for every outcome, so a vector that does worse than demonstrations, or no better
than a control, is said to. Choices are made on the validation split only. Over several seeds a
method is summed up by its mean and its range: test splits of different seeds share items, so they
are not one large sample; a pooled row's interval is a bootstrap over seeds and items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from taskvectors.format import (
    after_layers,
    at_positions,
    percent,
    percent_range,
    plural,
    points,
    points_range,
    whole,
)
from taskvectors.results.pivot import ComparisonRow

BASELINES = ("zero-shot", "icl")
"""Methods without a vector: what a vector is compared with."""
SUBJECTS = ("learned", "vanilla")
"""The methods a page is about, most wanted first; any other vector method comes after them."""
NULL_CONTROLS = ("majority", "random", "other-task", "shuffled-labels", "logit-bias")
"""Controls that a vector which works has to stand above."""
MARGIN = 0.02
"""How far the lower bound of a difference may lie below zero and still count as "at least"."""
SEEDS_FOR_A_CLAIM = 5
_MOST_ANSWERED = 0.5
"""Where so much is answered without any method, methods do not fail: they add nothing."""


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """How a method did on the test split: its selected row, or the mean of them over seeds.

    Attributes:
        rows: One selected row per seed; the first says what the vector looks like.
        pooled: The row that stands for all seeds, where there is one.
        accuracy: Mean over seeds.
        low: Lower end of the 95 % interval, or the lowest seed.
        high: Upper end, likewise.
    """

    rows: tuple[ComparisonRow, ...]
    pooled: ComparisonRow | None
    accuracy: float
    low: float | None
    high: float | None

    @property
    def first(self) -> ComparisonRow:
        """What the vector looks like."""
        return self.rows[0]

    @property
    def n_seeds(self) -> int:
        """How many seeds it stands on."""
        return len(self.rows)

    def is_below(self, other: "MethodSummary") -> bool:
        """Whether its whole interval, or range over seeds, lies below another's."""
        return self.high is not None and other.low is not None and self.high < other.low


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result in one sentence, what follows from it, and what speaks against it."""

    headline: str
    verdict: str
    cautions: tuple[str, ...]


def of_seeds(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows of single seeds: those that pool several have none."""
    has_seeds = any(row.seed is not None for row in rows)
    return [row for row in rows if row.seed is not None or not has_seeds]


def pooled_rows(rows: Sequence[ComparisonRow]) -> dict[str, ComparisonRow]:
    """The row of each method that pools its choices over several seeds."""
    single = of_seeds(rows)
    return {row.method: row for row in rows if row not in single and row.selected}


def shown_rows(rows: Sequence[ComparisonRow], *, controls: bool = False) -> list[ComparisonRow]:
    """Rows of the main table, or of the controls: what was selected, and what failed.

    Over several seeds a method's pooled row stands for all of them.
    """
    pooled = pooled_rows(rows)
    kept = [
        row
        for row in (*of_seeds(rows), *pooled.values())
        if row.is_control == controls
        and (row.selected or row.is_control or row.error)
        and (row.error or row.seed is None or row.method not in pooled)
    ]
    order = list(dict.fromkeys(row.method for row in rows))
    return sorted(kept, key=lambda row: order.index(row.method))


def method_summary(rows: Sequence[ComparisonRow], method: str) -> MethodSummary | None:
    """How a method did, or nothing where it has no selected row that was tested."""
    by_seed: dict[int | None, ComparisonRow] = {}
    for row in of_seeds(rows):
        if row.method != method or row.error or row.accuracy is None:
            continue
        if not (row.selected or row.is_control):
            continue
        held = by_seed.get(row.seed)
        if held is None or _validated(row) > _validated(held):
            by_seed[row.seed] = row
    found = tuple(by_seed.values())
    if not found:
        return None
    shares = [row.accuracy for row in found if row.accuracy is not None]
    is_one = len(found) == 1
    return MethodSummary(
        rows=found,
        pooled=pooled_rows(rows).get(method),
        accuracy=sum(shares) / len(shares),
        low=found[0].ci_low if is_one else min(shares),
        high=found[0].ci_high if is_one else max(shares),
    )


def subject(rows: Sequence[ComparisonRow]) -> MethodSummary | None:
    """The vector the page is about: learned, else vanilla, else any other that was measured."""
    others = [row.method for row in rows if not row.is_control and row.method not in BASELINES]
    found = (method_summary(rows, method) for method in dict.fromkeys((*SUBJECTS, *others)))
    return next((one for one in found if one is not None and not one.first.is_control), None)


def summary(rows: Sequence[ComparisonRow]) -> Summary:
    """The summary of a comparison, in whatever state it is."""
    main = subject(rows)
    icl, zero = (method_summary(rows, method) for method in ("icl", "zero-shot"))
    failed = dict.fromkeys(row.method for row in rows if row.error)
    failures = tuple(f"{method} failed; the reason is in its row." for method in failed)
    nothing = _nothing_works(rows, main, icl, zero)
    if main is None:
        return Summary(headline=_without_vector(rows, icl, zero), verdict=nothing,
                       cautions=failures)  # fmt: skip
    return Summary(
        headline=_headline(main, icl, zero),
        verdict=nothing or _verdict(main, icl),
        cautions=(*_cautions(rows, main, zero), *failures),
    )


# --- the headline


def _headline(main: MethodSummary, icl: MethodSummary | None, zero: MethodSummary | None) -> str:
    start = f"{_vector(main)} {percent(main.accuracy)} of {_items(main)}"
    interval = percent_range(main.low, main.high)
    if interval:
        start += f" (seeds: {interval})" if main.n_seeds > 1 else f" [{interval}]"
    parts = [start]
    if icl is not None:
        shown = f"{_shots(icl)} {percent(icl.accuracy)}"
        if icl.first.n != main.first.n and icl.first.n is not None:
            shown += f" of {whole(icl.first.n)}"
        parts.append(shown)
    if zero is not None:
        parts.append(f"without {'either' if icl else 'it'} {percent(zero.accuracy)}")
    return "; ".join(parts) + "."


def _vector(main: MethodSummary) -> str:
    row = main.first
    several = len(row.layers) > 1
    text = "Vectors" if several else "A vector"
    if row.parameters:
        text += f" of {whole(row.parameters)} numbers" + (" in all" if several else "")
    if row.method != "learned":
        text += f" ({row.method})"
    is_one_place = len({tuple(one.layers) for one in main.rows}) == 1
    place = after_layers(row.layers) if is_one_place else "after the layer that validation chose"
    positions = at_positions(row.positions)
    if positions and positions != "last token":
        place += f" at {positions}"
    verb = "answer" if several else "answers"
    return f"{text}, added {place}, {verb}" if place.strip() else f"{text} {verb}"


def _items(main: MethodSummary) -> str:
    if main.n_seeds > 1:
        return f"the test items, mean of {plural(main.n_seeds, 'seed')}"
    return f"{whole(main.first.n)} test items" if main.first.n is not None else "the test items"


def _shots(icl: MethodSummary) -> str:
    shots = icl.first.shots
    return plural(shots, "demonstration") if shots else "demonstrations"


def _without_vector(
    rows: Sequence[ComparisonRow], icl: MethodSummary | None, zero: MethodSummary | None
) -> str:
    parts = []
    if icl is not None:
        verb = "answers" if icl.first.shots == 1 else "answer"
        parts.append(f"{_shots(icl)} {verb} {percent(icl.accuracy)} of {_items(icl)}")
    if zero is not None:
        share = percent(zero.accuracy)
        parts.append(
            f"without them {share}" if icl else f"without demonstrations {share} of {_items(zero)}"
        )
    if not parts:
        return "This run measured no method successfully."
    text = "; ".join(parts)
    tried = any(row.error and not row.is_control for row in rows)
    return f"{text[0].upper()}{text[1:]}; {'every vector failed' if tried else 'no vector'}."


# --- the verdict


def _nothing_works(
    rows: Sequence[ComparisonRow],
    main: MethodSummary | None,
    icl: MethodSummary | None,
    zero: MethodSummary | None,
) -> str:
    """That no method does more than the model does by itself, or than an answer without a query."""
    methods = dict.fromkeys(
        row.method for row in rows if not row.is_control and row.method != "zero-shot"
    )
    found = [one for name in methods if (one := method_summary(rows, name)) is not None]
    if not found or (main is None and icl is None):
        return ""
    if not any(one.accuracy for one in (*found, *([zero] if zero else []))):
        return "Nothing works here: no method answers a single test item."
    floors = {
        "the model by itself": zero,
        "always giving the most frequent answer": method_summary(rows, "majority"),
    }
    for name, floor in floors.items():
        if floor is None or floor.high is None:
            continue
        if not any(one.accuracy > floor.high for one in found):
            works = "works" if floor.accuracy < _MOST_ANSWERED else "helps"
            reached = f"{percent(floor.accuracy)} [{percent_range(floor.low, floor.high)}]"
            return f"Nothing {works} here: no method lies above {name}, {reached}."
    return ""


def _verdict(main: MethodSummary, icl: MethodSummary | None) -> str:
    if icl is None:
        return "The run has no demonstrations to compare the vector with."
    differences = [row.difference_to_icl for row in main.rows if row.difference_to_icl is not None]
    if not differences:
        return "The paired difference from the demonstrations was not measured."
    row = main.first if main.n_seeds == 1 else main.pooled
    if row is None or row.difference_low is None or row.difference_high is None:
        mean = points(sum(differences) / len(differences), 1)
        return f"The paired difference from {_shots(icl)} is {mean} points; it has no interval."
    return _judged(row, _shots(icl), main.n_seeds)


def _judged(row: ComparisonRow, shots: str, n_seeds: int) -> str:
    """A paired difference from demonstrations, by its interval."""
    assert row.difference_low is not None
    assert row.difference_high is not None
    low, high = row.difference_low, row.difference_high
    where = "on these items" if n_seeds == 1 else f"over {plural(n_seeds, 'seed')}"
    if low > 0:
        said = f"The vector does better than {shots} {where}"
    elif high < 0:
        said = f"The vector does worse than {shots} {where}"
    elif low > -MARGIN:
        said = f"The vector does at least about as well as {shots} {where}"
    else:
        said = f"These items do not decide between the vector and {shots}"
    size = f"{points(row.difference_to_icl, 1)} points [{points_range(low, high, 1)}]"
    return f"{said}: paired difference {size}."


def _cautions(
    rows: Sequence[ComparisonRow], main: MethodSummary, zero: MethodSummary | None
) -> tuple[str, ...]:
    found: list[str] = []
    if zero is not None and zero.accuracy and not zero.is_below(main):
        found.append(
            f"Without anything the model reaches {percent(zero.accuracy)} already, "
            "so these items do not clearly show what the vector adds."
        )
    for method in NULL_CONTROLS:
        control = method_summary(rows, method)
        if control is not None and not control.is_below(main):
            clearly = "" if control.accuracy >= main.accuracy else "clearly "
            found.append(
                f"The control “{method}” reaches {percent(control.accuracy)}: what it stands for "
                f"is not {clearly}ruled out."
            )
    if any(row.converged is False for row in main.rows):
        found.append(
            "The chosen vector was still improving when its steps ran out: "
            "more steps may change its accuracy."
        )
    if main.n_seeds < SEEDS_FOR_A_CLAIM:
        found.append(
            f"This is {plural(main.n_seeds, 'seed')}; saying that one method is at least as good "
            f"as another takes {plural(SEEDS_FOR_A_CLAIM, 'seed')}."
        )
    return tuple(found)


def _validated(row: ComparisonRow) -> float:
    return -1.0 if row.validation_accuracy is None else row.validation_accuracy
