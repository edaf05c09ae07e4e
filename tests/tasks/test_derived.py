"""Tasks made from tasks.

Run with `pytest tests/tasks/test_derived.py`.
"""

import pytest

from taskvectors.errors import DataError
from taskvectors.tasks import Example, Task, load_task
from taskvectors.tasks.builtin import read_forms
from taskvectors.tasks.derived import (
    both_directions,
    copying,
    one_to_one,
    relabelled,
    reversed_task,
)


def task_of(*pairs: tuple[str, str]) -> Task:
    third = len(pairs) // 3
    examples = tuple(Example(input=x, output=y) for x, y in pairs)
    return Task(
        name="small",
        description="",
        template="arrow",
        source="",
        license="",
        seed=0,
        train=examples[:third],
        validation=examples[third : 2 * third],
        test=examples[2 * third :],
    )


SMALL = task_of(("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"), ("e", "E"), ("f", "F"))


def pairs(examples: tuple[Example, ...]) -> list[tuple[str, str]]:
    return [(pair.input, pair.output) for pair in examples]


def test_a_reversed_task_asks_the_other_way_in_the_same_splits() -> None:
    back = reversed_task(SMALL)
    assert pairs(back.train) == [("A", "a"), ("B", "b")]
    assert pairs(back.test) == [("E", "e"), ("F", "f")]
    assert reversed_task(back).train == SMALL.train


def test_both_directions_are_all_pairs_and_their_reverses_split_by_split() -> None:
    both = both_directions(SMALL)
    for split in ("train", "validation", "test"):
        forward = set(pairs(getattr(SMALL, split)))
        assert set(pairs(getattr(both, split))) == forward | {(y, x) for x, y in forward}
    sides = [{p.input for p in split} for split in (both.train, both.validation, both.test)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


def test_pairs_whose_words_do_not_tell_the_direction_are_left_out_and_counted() -> None:
    unclear = task_of(
        *(("a", "A"), ("b", "B"), ("b", "X"), ("c", "c"), ("d", "D"), ("D", "e"), ("f", "F"))
    )
    # two pairs share "b", "c" is on both sides of its own pair, "D" is on both sides of two
    with pytest.raises(DataError, match="2 of 7 pairs"):
        one_to_one(unclear)
    enough = task_of(*pairs(SMALL.train + SMALL.validation + SMALL.test), ("e", "G"), ("h", "H"))
    kept = one_to_one(enough)
    left = pairs(kept.train + kept.validation + kept.test)
    assert ("e", "E") not in left
    assert ("e", "G") not in left
    assert len(left) == 6
    assert kept.notes == ("2 pairs were left out whose direction a word does not tell",)


def test_a_copied_task_is_its_own_reverse() -> None:
    copied = copying(SMALL)
    assert pairs(copied.test) == [("e", "e"), ("f", "f")]
    assert reversed_task(copied).test == copied.test


def test_label_words_are_exchanged_one_for_one() -> None:
    task = load_task("sentiment", n_train=10, n_validation=5, n_test=5)
    changed = relabelled(task, {"positive": "true", "negative": "false"}, "sentiment-true-false")
    assert [p.input for p in changed.test] == [p.input for p in task.test]
    for before, after in zip(task.train, changed.train, strict=True):
        assert after.output == {"positive": "true", "negative": "false"}[before.output]
    with pytest.raises(DataError, match="negative"):
        relabelled(task, {"positive": "true"}, "broken")


def test_forms_hold_the_pairs_of_their_task() -> None:
    forms = read_forms("english-masculine-french-feminine")
    asked = {(word["english_masculine"], word["french_feminine"]) for word in forms}
    task = load_task("english-masculine-french-feminine")
    assert {(p.input, p.output) for p in task.test} <= asked
    with pytest.raises(DataError, match="no forms"):
        read_forms("capital")
