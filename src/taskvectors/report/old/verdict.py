"""What a run says, in sentences computed from its numbers.

The same rules hold for every outcome, so a vector that does worse than demonstrations, or no better
than a control, is said to. A verdict on one seed never claims more than that seed's interval does.
"""

from dataclasses import dataclass

from taskvectors.format import (
    after_layers,
    at_positions,
    number_word,
    percent,
    percent_range,
    plural,
    points,
    points_range,
    whole,
)
from taskvectors.report.old.run import Measurement, Run
from taskvectors.report.old.standing import NULL_CONTROLS, Standing, is_below, standing, subject
from taskvectors.report.old.wording import method_name

MARGIN = 0.02
"""How far the lower bound of a difference may lie below zero and still count as "at least"."""

SEEDS_FOR_A_CLAIM = 5


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The result in one sentence, how it compares, and what speaks against it."""

    sentence: str
    verdict: str
    cautions: tuple[str, ...]


def headline(run: Run) -> Headline:
    """The headline of a run.

    Args:
        run: A finished run, in whatever state.

    Returns:
        Sentences; `cautions` is empty where nothing speaks against the result.
    """
    main = subject(run)
    icl = standing(run, "icl")
    zero = standing(run, "zero-shot")
    if main is None:
        return Headline(
            sentence=_sentence_without_vector(run, icl, zero), verdict="", cautions=_failures(run)
        )
    return Headline(
        sentence=_sentence(main, icl, zero),
        verdict=_verdict(main, icl, run.pooled.get(main.first.method)),
        cautions=(*_cautions(run, main, zero), *_failures(run)),
    )


def _sentence(main: Standing, icl: Standing | None, zero: Standing | None) -> str:
    row = main.first
    many = main.seeds > 1
    start = (
        f"{_vector(row, one_layer=len({r.layers for r in main.rows}) == 1)} "
        f"{percent(main.accuracy)} of {_items(main)}"
    )
    interval = percent_range(main.low, main.high)
    if interval:
        start += f" (seeds: {interval})" if many else f" [{interval}]"
    parts = [start]
    if icl is not None:
        shown = f"{_shots(icl.first)} {percent(icl.accuracy)}"
        if icl.first.n != row.n and icl.first.n is not None:
            shown += f" of {whole(icl.first.n)}"
        parts.append(shown)
    if zero is not None:
        parts.append(f"without {'either' if icl else 'it'} {percent(zero.accuracy)}")
    return "; ".join(parts) + "."


def _vector(row: Measurement, one_layer: bool) -> str:
    several = len(row.layers) > 1
    text = "Vectors" if several else "A vector"
    if row.parameters:
        text += f" of {whole(row.parameters)} numbers" + (" in all" if several else "")
    if row.method == "vanilla":
        text += " read from demonstrations"
    elif row.method != "learned":
        text += f" ({method_name(row.method)})"
    place = after_layers(row.layers) if one_layer else "after the layer that validation chose"
    positions = at_positions(row.positions)
    if positions and positions != "last token":
        place += f" at {positions}"
    verb = "answer" if several else "answers"
    return f"{text}, added {place}, {verb}" if place.strip() else f"{text} {verb}"


def _items(main: Standing) -> str:
    if main.seeds > 1:
        return f"the test items, mean of {plural(main.seeds, 'seed')}"
    return f"{whole(main.first.n)} test items" if main.first.n is not None else "the test items"


def _shots(row: Measurement) -> str:
    return "demonstrations" if row.shots is None else plural(row.shots, "demonstration")


def _sentence_without_vector(run: Run, icl: Standing | None, zero: Standing | None) -> str:
    parts = []
    if icl is not None:
        shots = _shots(icl.first)
        verb = "answers" if icl.first.shots == 1 else "answer"
        parts.append(f"{shots} {verb} {percent(icl.accuracy)} of {_items(icl)}")
    if zero is not None:
        share = percent(zero.accuracy)
        parts.append(
            f"without them {share}" if icl else f"without demonstrations {share} of {_items(zero)}"
        )
    if not parts:
        return "This run measured no method successfully."
    text = "; ".join(parts)
    tried = {row.method for row in run.measurements if row.error and not row.is_control}
    end = "every vector failed" if tried else "no vector was measured"
    return f"{text[0].upper()}{text[1:]}; {end}."


def _verdict(main: Standing, icl: Standing | None, pooled: Measurement | None) -> str:
    if icl is None:
        return "The run has no demonstrations to compare the vector with."
    differences = [r.difference_to_icl for r in main.rows if r.difference_to_icl is not None]
    if not differences:
        return "The paired difference from the demonstrations was not measured."
    if main.seeds > 1:
        return _verdict_over_seeds(differences, icl, pooled)
    return _verdict_on_one_seed(main.first, icl)


def _verdict_over_seeds(differences: list[float], icl: Standing, pooled: Measurement | None) -> str:
    ahead = sum(difference > 0 for difference in differences)
    mean = sum(differences) / len(differences)
    said = (
        f"The vector is ahead of {_shots(icl.first)} in {number_word(ahead)} of "
        f"{plural(len(differences), 'seed')}: {points(mean, 1)} points on average "
        f"({points_range(min(differences), max(differences), 1)} by seed)."
    )
    if pooled is None or pooled.difference_low is None or pooled.difference_high is None:
        return said
    interval = points_range(pooled.difference_low, pooled.difference_high, 1)
    claim = (
        "so it is at least as good" if pooled.difference_low > -MARGIN else "which decides nothing"
    )
    if pooled.difference_high < 0:
        claim = "so it does worse"
    return f"{said} Paired over seeds and items the interval is [{interval}], {claim}."


def _verdict_on_one_seed(row: Measurement, icl: Standing) -> str:
    low, high = row.difference_low, row.difference_high
    shots = _shots(icl.first)
    size = f"{points(row.difference_to_icl, 1)} points"
    if low is None or high is None:
        return f"The paired difference from {shots} is {size}; it has no interval."
    size += f" [{points_range(low, high, 1)}]"
    if low > 0:
        return f"The vector does better than {shots}: paired difference {size}."
    if high < 0:
        return f"The vector does worse than {shots}: paired difference {size}."
    if low > -MARGIN:
        return (
            f"The vector does at least about as well as {shots} on these items: paired difference "
            f"{size}, whose lower end lies above {points(-MARGIN)} points."
        )
    return (
        f"These items do not decide between the vector and {shots}: paired difference {size} "
        f"includes zero, and its lower end lies below {points(-MARGIN)} points."
    )


def _cautions(run: Run, main: Standing, zero: Standing | None) -> tuple[str, ...]:
    found: list[str] = []
    if zero is not None and not is_below(zero, main):
        found.append(
            f"Without anything the model reaches {percent(zero.accuracy)} already, "
            "so these items do not clearly show what the vector adds."
        )
    for method in NULL_CONTROLS:
        control = standing(run, method)
        if control is not None and not is_below(control, main):
            clearly = "" if control.accuracy >= main.accuracy else "clearly "
            found.append(
                f"The control “{method_name(method).lower()}” reaches "
                f"{percent(control.accuracy)}: what it stands for is not {clearly}ruled out."
            )
    if any(row.converged is False for row in main.rows):
        found.append(
            "The chosen vector was still improving when its steps ran out: "
            "more steps may change its accuracy."
        )
    if main.seeds < SEEDS_FOR_A_CLAIM:
        found.append(
            f"This is {plural(main.seeds, 'seed')}; saying that one method is at least as good as "
            f"another takes {number_word(SEEDS_FOR_A_CLAIM)}."
        )
    return tuple(found)


def _failures(run: Run) -> tuple[str, ...]:
    failed = list(dict.fromkeys(row.method for row in run.measurements if row.error))
    return tuple(f"{method_name(method)} failed; the reason is in its row." for method in failed)
