"""Rows by hand: which is selected, what differs from ICL, what is pooled.

Run with `pytest tests/results/test_pooling.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import DataError
from taskvectors.evaluate import paired_difference
from taskvectors.results import ComparisonRow
from taskvectors.results.pivot import failed_row
from taskvectors.results.pooling import with_differences, with_one_selected

EMPTY = failed_row("x", 0, DataError("none"), is_control=False)


def row(method: str, correct: str = "1100", **changes: Any) -> ComparisonRow:
    n = len(correct)
    given = vars(EMPTY) | {
        "method": method,
        "correct": correct,
        "error": None,
        "n": n,
        "accuracy": correct.count("1") / n if n else None,
        "validation_accuracy": 0.5,
    }
    return ComparisonRow(**given | changes)


def marks(*texts: str) -> list[torch.Tensor]:
    return [torch.tensor([mark == "1" for mark in text]) for text in texts]


def difference(of: ComparisonRow) -> tuple[float | None, ...]:
    return of.difference_to_icl, of.difference_low, of.difference_high


def test_the_best_on_validation_is_selected_and_the_first_of_equals() -> None:
    rows = [
        row("learned", validation_accuracy=0.4),
        row("icl", validation_accuracy=0.9),
        row("learned", validation_accuracy=0.6, selected=False),
        row("learned", validation_accuracy=0.5),
        row("learned", validation_accuracy=0.5),
        row("random", validation_accuracy=None, is_control=True),
        failed_row("learned", 0, DataError("no"), is_control=False),
    ]
    found = with_one_selected(rows)
    assert [one.selected for one in found] == [False, True, False, True, False, True, True]
    assert [one.method for one in found] == [one.method for one in rows]


def test_one_way_of_a_method_stays_as_it_is() -> None:
    rows = [row("zero-shot", validation_accuracy=0.0), row("icl", validation_accuracy=0.0)]
    assert with_one_selected(rows) == rows


def test_differences_are_to_the_icl_row_of_the_same_seed() -> None:
    rows = [row("icl", "1010", seed=1), row("learned", "1110", seed=1)]
    found = with_differences(rows)
    expected = paired_difference(marks("1110"), marks("1010"))
    assert difference(found[0]) == (0, 0, 0)
    assert difference(found[1]) == (expected.mean, expected.low, expected.high)
    assert len(found) == 2  # one seed is not pooled


def test_with_several_icl_rows_the_selected_one_counts() -> None:
    rows = [row("icl", "0000", selected=False), row("icl", "1111"), row("learned", "1100")]
    rows += [row("icl", "0000", selected=False)]
    assert with_differences(rows)[2].difference_to_icl == -0.5


@pytest.mark.parametrize(
    "icl",
    [[], [failed_row("icl", 0, DataError("too long"), is_control=False)]],
    ids=["not asked for", "failed"],
)
def test_without_icl_nothing_is_compared_with_it(icl: list[ComparisonRow]) -> None:
    found = with_differences([*icl, row("learned")])
    assert difference(found[-1]) == (None, None, None)


def test_a_failed_row_is_never_compared_nor_pooled() -> None:
    rows = [row("icl", seed=seed) for seed in (0, 1)]
    rows += [row("learned", seed=0), failed_row("learned", 1, DataError("no"), is_control=False)]
    found = with_differences(rows)
    assert difference(found[3]) == (None, None, None)
    assert found[3].error == "no"
    assert [one.method for one in found if one.seed is None] == ["icl"]


def test_pooling_averages_what_can_be_and_leaves_open_what_cannot() -> None:
    def one(method: str, seed: int, correct: str, **changes: Any) -> ComparisonRow:
        return row(method, correct, seed=seed, layers=[seed], strength=1.0, **changes)

    rows = [one("icl", seed, "1010") for seed in (0, 1)]
    rows += [
        one("learned", 0, "1110", label_accuracy=0.5, seconds=2.0, answer_logprob=-1.0),
        one("learned", 1, "1100", label_accuracy=None, seconds=4.0, answer_logprob=-3.0),
        one("learned", 1, "1111", selected=False),
    ]
    found = with_differences(rows)
    assert len(found) == len(rows) + 2
    pooled = found[-1]
    assert (pooled.method, pooled.seed, pooled.n, pooled.layers) == ("learned", None, 8, [0, 1])
    assert pooled.accuracy == 0.625
    assert pooled.label_accuracy is None
    assert (pooled.seconds, pooled.answer_logprob, pooled.strength) == (3.0, -2.0, 1.0)
    assert pooled.correct == ""
    expected = paired_difference(marks("1110", "1100"), marks("1010", "1010"))
    assert difference(pooled) == (expected.mean, expected.low, expected.high)


def test_rows_that_were_pooled_before_are_pooled_anew() -> None:
    rows = [row("icl", seed=seed) for seed in (0, 1)]
    once = with_differences(rows)
    assert with_differences(once) == once


def test_strengths_that_differ_between_seeds_are_not_one_strength() -> None:
    rows = [row("vanilla", seed=seed, strength=strength) for seed, strength in ((0, 1.0), (1, 2.0))]
    assert with_differences(rows)[-1].strength is None


def test_a_row_for_machines_has_no_marks() -> None:
    one = row("learned", layers=["embed", 3], positions=[-1, "query"])
    assert "correct" not in one.as_dict()
    assert one.as_dict()["layers"] == ["embed", 3]


def test_a_failed_row_has_no_numbers_and_says_why() -> None:
    failed = failed_row("random", 3, DataError("it is so"), is_control=True)
    assert (failed.method, failed.seed, failed.error) == ("random", 3, "it is so")
    assert failed.is_control
    numbers = [failed.accuracy, failed.n, failed.seconds, failed.steps, failed.difference_low]
    assert numbers == [None] * 5
