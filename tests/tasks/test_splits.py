import pytest

from taskvectors.errors import DataError
from taskvectors.tasks import Example
from taskvectors.tasks.splits import linked_groups, make_splits, unique_pairs

SIZES = {"train": 300, "validation": 100, "test": 200}


def pairs(*texts: str) -> list[Example]:
    """`"hot cold"` is the pair hot -> cold."""
    return [Example(input=a, output=b) for a, b in (text.split() for text in texts)]


def numbered(n: int, start: int = 0) -> list[Example]:
    return [Example(input=f"in{i}", output=f"out{i}") for i in range(start, start + n)]


def sizes_of(own: dict[str, list[Example]], seed: int = 0, **sizes: int) -> tuple[int, int, int]:
    splits = make_splits(own, {**SIZES, **sizes}, seed)
    return len(splits.train), len(splits.validation), len(splits.test)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1000, (300, 100, 200)),
        (600, (300, 100, 200)),
        (550, (268, 82, 200)),
        (200, (90, 30, 80)),
        (197, (88, 30, 79)),
        (8, (4, 1, 3)),
    ],
)
def test_splits_have_the_sizes_asked_for_or_shares_of_short_data(
    n: int, expected: tuple[int, int, int]
) -> None:
    assert sizes_of({"train": numbered(n)}) == expected


def test_no_split_exceeds_what_was_asked_for_when_data_is_short() -> None:
    assert sizes_of({"train": numbered(200)}, train=8) == (8, 30, 80)


def test_short_and_unused_data_are_reported() -> None:
    short = make_splits({"train": numbered(200)}, SIZES, 0)
    assert short.notes == (
        "300/100/200 pairs (train/validation/test) were asked for, 90/30/80 are there",
    )
    assert make_splits({"train": numbered(700)}, SIZES, 0).notes == (
        "600 of 700 usable pairs are used",
    )
    assert make_splits({"train": numbered(600)}, SIZES, 0).notes == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_pair_and_its_reverse_are_never_on_two_sides(seed: int) -> None:
    data = numbered(30)
    data += [Example(input=pair.output, output=pair.input) for pair in data]
    splits = make_splits({"train": data}, SIZES, seed)
    sides = [
        {frozenset((pair.input, pair.output)) for pair in side}
        for side in (splits.train, splits.validation, splits.test)
    ]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert min(map(len, sides)) >= 4


def test_pairs_of_one_label_can_be_on_all_sides() -> None:
    data = [Example(input=f"text {i}", output="positive") for i in range(40)]
    splits = make_splits({"train": data}, SIZES, 0)
    assert min(len(splits.train), len(splits.validation), len(splits.test)) >= 6


def test_groups_follow_links_through_inputs_and_reverses() -> None:
    data = pairs("hot cold", "big small", "cold hot", "cold chilly", "up cold")
    groups = [[f"{pair.input} {pair.output}" for pair in group] for group in linked_groups(data)]
    assert groups == [["hot cold", "cold hot", "cold chilly"], ["big small"], ["up cold"]]


def test_duplicates_are_dropped_and_named() -> None:
    kept, notes = unique_pairs(pairs("a 1", "b 2", "a 1"))
    assert kept == pairs("a 1", "b 2")
    assert notes == ["duplicate pair dropped: 'a' -> '1'"]


def test_of_conflicting_outputs_the_first_is_kept_and_each_conflict_named() -> None:
    kept, notes = unique_pairs(pairs("a 1", "a 2", "a 3"))
    assert kept == pairs("a 1")
    assert notes == [
        "conflicting outputs dropped: 'a' -> '1' was kept, '2' dropped",
        "conflicting outputs dropped: 'a' -> '1' was kept, '3' dropped",
    ]


def test_case_is_not_folded() -> None:
    assert unique_pairs(pairs("May month", "may verb")) == (pairs("May month", "may verb"), [])


def test_long_lists_of_duplicates_end_in_a_count() -> None:
    _, notes = unique_pairs(numbered(50) * 2)
    assert len(notes) == 21
    assert notes[-1] == "duplicate pair dropped: 30 more"


def test_the_split_is_a_function_of_the_seed() -> None:
    data = {"train": numbered(40)}
    assert make_splits(data, SIZES, 1) == make_splits(data, SIZES, 1)
    assert make_splits(data, SIZES, 1).test != make_splits(data, SIZES, 2).test
    assert make_splits(data, SIZES, 1).test != make_splits(data, SIZES, -1).test


def test_the_split_is_the_same_on_every_platform() -> None:
    splits = make_splits({"train": numbered(10)}, SIZES, 0)
    assert [pair.input for pair in splits.test] == ["in9", "in6", "in5", "in0"]


def test_the_test_pairs_do_not_depend_on_the_number_of_training_pairs() -> None:
    data = {"train": numbered(700)}
    few = make_splits(data, {**SIZES, "train": 8}, 0)
    assert few.test == make_splits(data, SIZES, 0).test
    assert len(few.train) == 8


def test_own_splits_are_kept() -> None:
    own = {
        "train": numbered(20),
        "validation": numbered(10, start=100),
        "test": numbered(10, start=200),
    }
    splits = make_splits(own, {"train": 15, "validation": 5, "test": 30}, 0)
    assert {p.input for p in splits.train} < {p.input for p in own["train"]}
    assert {p.input for p in splits.validation} < {p.input for p in own["validation"]}
    assert {p.input for p in splits.test} == {p.input for p in own["test"]}
    assert len(splits.train) == 15
    assert len(splits.validation) == 5


def test_validation_is_the_test_split_where_there_is_no_other() -> None:
    own = {"train": numbered(100), "validation": numbered(10, start=200)}
    splits = make_splits(own, {"train": 20, "validation": 7, "test": 10}, 0)
    assert {p.input for p in splits.test} == {p.input for p in own["validation"]}
    assert {p.input for p in splits.validation} <= {p.input for p in own["train"]}
    assert len(splits.validation) == 7


def test_training_pairs_linked_to_own_test_pairs_are_dropped_and_reported() -> None:
    test = [*numbered(10), Example(input="hot", output="cold")]
    train = [*numbered(30, start=9), Example(input="cold", output="hot")]
    splits = make_splits({"train": train, "test": test}, {**SIZES, "validation": 0}, 0)
    assert {p.input for p in splits.train} == {f"in{i}" for i in range(10, 39)}
    assert splits.notes[:2] == (
        "train split: pair that is also in another split dropped: 'in9'",
        "train split: pair that is also in another split dropped: 'cold'",
    )


def test_too_few_usable_pairs_are_an_error() -> None:
    with pytest.raises(DataError, match="7 usable pairs are too few"):
        make_splits({"train": numbered(7) * 3}, SIZES, 0)


def test_a_negative_size_is_an_error() -> None:
    with pytest.raises(DataError, match="validation split is -1"):
        make_splits({"train": numbered(20)}, {**SIZES, "validation": -1}, 0)


def test_a_split_left_without_pairs_is_an_error() -> None:
    own = {"train": pairs("a b"), "test": numbered(20)}
    with pytest.raises(DataError, match="no pair is left for the validation split"):
        make_splits(own, SIZES, 0)


def test_a_split_of_size_zero_is_allowed() -> None:
    assert sizes_of({"train": numbered(20)}, train=10, validation=0, test=5) == (10, 0, 5)
