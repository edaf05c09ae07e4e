"""Rows: what a comparison reports, one line per measurement, plain names and no nesting."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from taskvectors.evaluate import Scores, measure, paired_difference, pooled_interval
from taskvectors.methods import Candidate, RunContext
from taskvectors.methods.shared.run_context import layer_name


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate on the test split."""

    method: str
    configuration: str
    layers: list[int | str]
    positions: list[int | str]
    strength: float | None
    shots: int
    seed: int | None
    """None for a row that pools several seeds."""
    n: int | None
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    first_token_accuracy: float | None
    label_accuracy: float | None
    in_label_set: float | None
    answer_logprob: float | None
    validation_accuracy: float | None
    selected: bool
    """Chosen on validation among the method's candidates; true for a method without choices."""
    preset: str | None
    """Name of a configuration, or number of training pairs, that the method was run in besides."""
    preset_selected: bool
    """Chosen on validation among the method's candidates in that preset."""
    is_control: bool
    difference_to_icl: float | None
    difference_low: float | None
    difference_high: float | None
    parameters: int | None
    examples: int | None
    steps: int | None
    seconds: float | None
    seconds_per_step: float | None
    peak_bytes: int | None
    forward_tokens: int | None
    converged: bool | None
    d_ntp: float | None = None
    note: str | None = None
    error: str | None = None
    correct: str = ""
    """One character per test prompt, 1 where it is answered rightly: what paired figures are made
    of."""

    def as_dict(self) -> dict[str, Any]:
        """The row for machines, without the per-prompt column."""
        return {name: value for name, value in asdict(self).items() if name != "correct"}


def row_of(
    context: RunContext,
    candidate: Candidate,
    test: Scores,
    validation: Scores | None,
    **about: Any,
) -> Row:
    """A candidate's row, without the difference to ICL, which needs ICL's row."""
    about = {"preset": None, "preset_selected": False} | about
    found = measure(test, context.label_starts)
    sites = candidate.sites
    has_probabilities = found.answer_logprob == found.answer_logprob
    validated = None if validation is None else float(validation.is_correct.double().mean())
    cost = candidate.cost
    return Row(
        method=candidate.method,
        configuration=candidate.configuration,
        layers=[layer_name(layer) for layer in dict.fromkeys(site.layer for site in sites)],
        positions=list(dict.fromkeys(site.position for site in sites)),
        strength=candidate.strength if sites else None,
        shots=candidate.shots,
        seed=context.seed,
        n=found.n,
        accuracy=found.accuracy,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        first_token_accuracy=found.first_token_accuracy,
        label_accuracy=found.label_accuracy,
        in_label_set=found.in_label_set,
        answer_logprob=found.answer_logprob if has_probabilities else None,
        validation_accuracy=validated,
        difference_to_icl=None,
        difference_low=None,
        difference_high=None,
        parameters=cost.parameters or None,
        examples=cost.examples,
        steps=cost.steps or None,
        seconds=cost.seconds + test.seconds,
        seconds_per_step=cost.seconds_per_step,
        peak_bytes=cost.peak_bytes,
        forward_tokens=cost.forward_tokens + test.forward_tokens,
        converged=candidate.converged,
        note=candidate.note or None,
        d_ntp=candidate.d_ntp,
        correct="".join("1" if hit else "0" for hit in test.is_correct[0].tolist()),
        **about,
    )


def failed_row(
    method: str, seed: int, error: Exception, *, is_control: bool, preset: str | None = None
) -> Row:
    """The row of a method that could not be run: it says why, and does not drop out."""
    empty = dict.fromkeys(Row.__dataclass_fields__)
    filled: dict[str, Any] = empty | {
        "method": method,
        "configuration": preset or "",
        "preset": preset,
        "preset_selected": preset is not None,
        "layers": [],
        "positions": [],
        "shots": 0,
        "seed": seed,
        "selected": preset is None,
        "is_control": is_control,
        "error": str(error),
        "correct": "",
    }
    return Row(**filled)


def with_one_selected(rows: Sequence[Row]) -> list[Row]:
    """The rows of a seed, where a method that was run in several ways keeps the best as selected.

    The best is so on validation; of equals it is the first.
    """
    best: dict[str, Row] = {}
    for row in rows:
        if row.selected and not row.is_control and row.validation_accuracy is not None:
            rival = best.setdefault(row.method, row)
            if row.validation_accuracy > (rival.validation_accuracy or 0.0):
                best[row.method] = row
    return [
        row_in(row, selected=False)
        if row.selected and row.validation_accuracy is not None and row is not best.get(row.method)
        else row
        for row in rows
    ]


def with_differences(rows: Iterable[Row]) -> list[Row]:
    """The rows with their paired difference to ICL on the same seed's prompts, and pooled rows.

    A pooled row stands for a method's selected rows over all seeds, where there are several; each
    preset has one of its own.
    """
    rows = [row for row in rows if row.seed is not None]
    base = {row.seed: row for row in rows if row.method == "icl" and row.selected and row.correct}
    paired = [_compared(row, [row], [base[row.seed]]) if row.seed in base else row for row in rows]
    seeds = {row.seed for row in rows}
    if len(seeds) < 2:
        return paired
    pooled = []
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if row.correct and row.selected:
            groups.setdefault((row.method, None), []).append(row)
        if row.correct and row.preset_selected:
            groups.setdefault((row.method, row.preset), []).append(row)
    for (_, preset), chosen in groups.items():
        if {row.seed for row in chosen} == seeds:
            against = [base[row.seed] for row in chosen if row.seed in base]
            pooled.append(_pooled(chosen, against, preset))
    return paired + pooled


def _compared(row: Row, ours: list[Row], icl: list[Row]) -> Row:
    if not ours[0].correct or len(icl) != len(ours):
        return row
    difference = paired_difference([_hits(r) for r in ours], [_hits(r) for r in icl])
    return row_in(
        row,
        difference_to_icl=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
    )


def _pooled(chosen: list[Row], icl: list[Row], preset: str | None) -> Row:
    """One row for several seeds; its interval is `pooled_interval`'s."""
    n_prompts = sum(len(row.correct) for row in chosen)
    ci_low, ci_high = pooled_interval([_hits(row) for row in chosen])

    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in chosen]
        return None if None in values else sum(values) / len(values)

    averaged = {
        name: mean(name)
        for name in (
            "accuracy", "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob",
            "validation_accuracy", "seconds", "seconds_per_step", "d_ntp",
        )
    }  # fmt: skip
    pooled = row_in(
        chosen[0],
        configuration=", ".join(filter(None, (preset, f"all {len(chosen)} seeds"))),
        preset=preset,
        preset_selected=preset is not None,
        selected=preset is None,
        layers=list(dict.fromkeys(layer for row in chosen for layer in row.layers)),
        seed=None,
        n=n_prompts,
        ci_low=ci_low,
        ci_high=ci_high,
        strength=chosen[0].strength if len({row.strength for row in chosen}) == 1 else None,
        correct="",
        **averaged,
    )
    return _compared(pooled, chosen, icl)


def _hits(row: Row) -> Any:
    return torch.tensor([mark == "1" for mark in row.correct])


def row_in(row: Row, **changes: Any) -> Row:
    """The row with some of its fields changed."""
    return Row(**(asdict(row) | changes))


def to_table(row: Row) -> dict[str, Any]:
    """A row for Parquet, which has no column of mixed types: lists as JSON text."""
    values = asdict(row)
    return values | {name: json.dumps(values[name]) for name in ("layers", "positions")}
