"""Two-way questions: both orders of the options, splits, files, and the set that is ours.

Run with `pytest tests/tasks/test_behaviours.py`.
"""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from tasks.test_data_sentences import mould_of, shared_share, trigrams_of

from taskvectors.errors import DataError
from taskvectors.prompts.templates import load_template
from taskvectors.tasks.behaviours import (
    BUILT_IN,
    LETTERS,
    TEMPLATE,
    Choice,
    behaviour_task,
    read_choices,
)

SIZES = {"n_train": 100, "n_validation": 100, "n_test": 100}


def row(matching: str = "(B)", question: str = "Now or later?") -> dict[str, str]:
    other = next(letter for letter in LETTERS if letter != matching)
    return {
        "question": f"{question}\n\nChoices:\n (A) Later\n (B) Now",
        "answer_matching_behavior": matching,
        "answer_not_matching_behavior": other,
    }


def written(folder: Path, text: str) -> str:
    path = folder / "behaviour.jsonl"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_file_has_an_object_a_line_or_is_one_list(as_list: bool, tmp_path: Path) -> None:
    rows = [row("(B)"), row(" (A)".strip(), "Small or large?")]
    text = json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows))
    found = read_choices(written(tmp_path, text))
    assert found == (
        Choice(question="Now or later?", matching="Now", other="Later"),
        Choice(question="Small or large?", matching="Later", other="Now"),
    )


def test_each_order_has_the_matching_option_under_another_letter() -> None:
    choice = Choice(question="Now or later?", matching="Now", other="Later")
    first, second = (choice.asked(matching_first=first) for first in (True, False))
    assert first.input == "Now or later?\n\nChoices:\n (A) Now\n (B) Later"
    assert second.input == "Now or later?\n\nChoices:\n (A) Later\n (B) Now"
    assert (first.output, second.output) == LETTERS
    assert load_template(TEMPLATE).fill(first).endswith(" (B) Later\nAnswer: (A)")


def test_letters_are_balanced_and_a_question_is_on_one_side_only() -> None:
    task = behaviour_task(BUILT_IN, seed=1, **SIZES)
    sides = {}
    for split in ("train", "validation", "test"):
        pairs = getattr(task, split)
        counts = Counter(pair.output for pair in pairs)
        assert counts[LETTERS[0]] == counts[LETTERS[1]] > 0
        for pair in pairs:
            question = pair.input.partition("\n\nChoices:")[0]
            assert sides.setdefault(question, split) == split
    assert len(sides) == len(read_choices(BUILT_IN))
    assert task.notes


def test_the_split_depends_on_the_seed_alone() -> None:
    one, same, other = (behaviour_task(BUILT_IN, seed=seed, **SIZES) for seed in (1, 1, 2))
    assert one.test == same.test
    assert one.test != other.test
    small = behaviour_task(BUILT_IN, seed=1, n_train=4, n_validation=2, n_test=3)
    assert [len(part) for part in (small.train, small.validation, small.test)] == [8, 4, 6]
    assert not small.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("", "no question is in it"),
        ("[1]", "question 1: an object with texts"),
        (json.dumps(row() | {"question": "Are you patient?"}), "cannot be put in both orders"),
        (json.dumps(row() | {"answer_matching_behavior": " Yes"}), "cannot be put in both orders"),
    ],
)
def test_what_is_no_such_question_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_choices(written(tmp_path, text))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-file.jsonl", "there is no such file"),
        ("hub:Anthropic/model-written-evals", "names no file of a data set"),
        ("hub:Anthropic/model-written-evals/myopic.jsonl", "cannot be loaded"),
    ],
)
def test_a_source_that_cannot_be_read_is_an_error(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):  # tests are offline
        read_choices(source)


def test_too_few_questions_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave none for the"):
        behaviour_task(written(tmp_path, json.dumps(row())), seed=0, **SIZES)


# --- the set that is ours


@pytest.fixture(scope="module")
def ours() -> tuple[Choice, ...]:
    return read_choices(BUILT_IN)


def test_there_are_at_least_forty_different_questions(ours: tuple[Choice, ...]) -> None:
    assert len({choice.question for choice in ours}) == len(ours) >= 40
    assert all(choice.matching != choice.other for choice in ours)


def test_no_two_questions_share_more_than_half_of_their_word_trigrams(ours: Any) -> None:
    items = [(choice.question, trigrams_of(choice.question)) for choice in ours]
    close = [
        (first, second)
        for (first, grams), (second, others) in combinations(items, 2)
        if shared_share(grams, others) > 0.5
    ]
    assert close == []


def test_at_most_five_questions_are_cast_in_one_mould(ours: Any) -> None:
    moulds = Counter(mould_of(choice.question) for choice in ours)
    assert max(moulds.values()) <= 5
