"""Transfer, composition, interpolation and bijections, with vectors whose effect is known.

A vector at the last block along a word's unembedding makes the model say that word, whatever is
asked. Run with `pytest tests/explain/test_vectors_and_tasks.py`.
"""

from typing import Any

import pytest
import torch
from recipes import from_zero

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.explain import ANALYSES
from taskvectors.explain.bijections import Configuration, map_both_ways
from taskvectors.explain.composition import FORMS, OTHER, compose, longest_said
from taskvectors.explain.interpolation import STEPS, interpolate
from taskvectors.explain.shared.case import Case
from taskvectors.explain.transfer import NONE, transfer_matrix, two_by_two
from taskvectors.results.figures import Figure, Heatmap
from taskvectors.tasks.derived import copying
from taskvectors.vectors import Site, TaskVector


def constant(word: str, start: int = 0) -> list[tuple[str, str]]:
    return [(f"{'ab'[n % 2] * (n % 3)}{start + n}", word) for n in range(15)]


@pytest.fixture(scope="module")
def model(fresh_model: Any) -> Any:
    return fresh_model("llama")


@pytest.fixture(scope="module")
def benches(model: Any, small_bench: Any) -> Any:
    """Two tasks with the same label word, one with another."""
    return [
        small_bench(model, "one", constant("cold")),
        small_bench(model, "same-word", constant("cold", 100)),
        small_bench(model, "other-word", constant("rouge")),
    ]


# --- transfer


def test_a_vector_transfers_to_tasks_that_share_its_label_word_and_to_no_other(
    model: Any, benches: Any, saying: Any
) -> None:
    vectors = [saying(model, "one", cold=1.0), saying(model, "other-word", rouge=1.0)]
    cells = two_by_two("one", "other-word", "same-word", "other-word")
    found = transfer_matrix(benches, vectors, cells=cells)
    reached = {(row.vector, row.task): row for row in found.rows}
    assert {pair: row.accuracy for pair, row in reached.items() if pair[0] != NONE} == {
        ("one", "one"): 1,
        ("one", "same-word"): 1,
        ("one", "other-word"): 0,
        ("other-word", "one"): 0,
        ("other-word", "same-word"): 0,
        ("other-word", "other-word"): 1,
    }
    assert reached["one", "one"].cell == "same task, same words"
    assert reached["one", "other-word"].cell == ""
    assert reached["one", "other-word"].in_label_set == 0
    assert all(reached[NONE, context.task.name].accuracy < 1 for context in benches)
    figure = found.figure()
    assert isinstance(figure, Heatmap)
    assert figure.rows == (NONE, "one", "other-word")
    assert figure.columns == ("one", "same-word", "other-word")
    assert figure.values[1] == (1, 1, 0)
    assert figure.marked == ((1, 0), (2, 2))
    assert "one on same-word 100\xa0%" in ANALYSES["transfer"].summarise(found.to_frame())
    assert len(found.to_frame()) == 9


def test_two_vectors_of_one_task_are_refused(model: Any, benches: Any, saying: Any) -> None:
    twice = [saying(model, "one", cold=1.0)] * 2
    with pytest.raises(TaskVectorsError, match="several of 'one'"):
        transfer_matrix(benches, twice)


# --- composition


def test_the_sum_of_two_vectors_is_told_apart_from_its_parts(
    model: Any, small_bench: Any, saying: Any
) -> None:
    inputs = [f"{'ab'[n % 2]}{n}" for n in range(15)]
    context = small_bench(model, "both", [(word, "maison") for word in inputs])
    forms = [dict(zip(FORMS, (word, "cold", "rouge", "maison"), strict=True)) for word in inputs]
    forms[-1]["english_feminine"] = "Maison"  # two of its forms are one: it is left out
    left = saying(model, "english-french", rouge=1.0, maison=0.6)
    right = saying(model, "masculine-feminine", cold=1.0, maison=0.6)
    found = compose(context, left, right, whole=saying(model, "both", maison=1.0), forms=forms)
    rows = {(row.vector, row.strength, row.shots): row for row in found.rows}
    assert rows["english-french", 1.0, 0].french_masculine == 1
    assert rows["masculine-feminine", 1.0, 0].english_feminine == 1
    for name in (("sum", 1.0, 0), ("sum", 0.5, 0), ("learned on both", 1.0, 0)):
        assert rows[name].french_feminine == 1
        assert rows[name].other == 0
    assert rows["difference", 1.0, 0].french_masculine == 1
    assert rows["random", 1.0, 0].french_feminine < 1
    assert {row.n for row in found.rows} == {5}
    assert {("none", None, 0), ("none", None, 2)} <= rows.keys()
    for row in found.rows:
        outcomes = [getattr(row, form) for form in FORMS]
        assert sum(outcomes) + row.other == pytest.approx(1)
    figure = found.figure()
    assert isinstance(figure, Heatmap)
    assert figure.rows[0] == "zero-shot"
    assert figure.rows[-1] == "2-shot"
    said = ANALYSES["composition"].summarise(found.to_frame())
    assert said.startswith(
        "French feminine with the sum 100\xa0% [57\u2013100\xa0%]; with english-french"
    )


def test_of_two_words_of_which_one_begins_the_other_the_longer_was_said() -> None:
    # forms x one branch x four words
    hits = torch.tensor(
        [[[True, False, False, True]], [[True, True, False, False]]], dtype=torch.bool
    )
    lengths = torch.tensor([[1, 1, 2, 3], [2, 1, 2, 1]])
    assert longest_said(hits, lengths).tolist() == [[1, 1, OTHER, 0]]


def test_a_composition_without_its_vectors_says_which_is_missing(
    model: Any, benches: Any, saying: Any
) -> None:
    vector = saying(model, "english-french", rouge=1.0)
    case = Case(context=benches[0], vector=vector, vectors=(vector,))
    with pytest.raises(TaskVectorsError, match="none of masculine-feminine"):
        ANALYSES["composition"].run(case)


# --- interpolation


def test_between_two_vectors_one_task_gives_way_to_the_other(
    model: Any, benches: Any, saying: Any
) -> None:
    one, other = benches[0], benches[2]
    vectors = (saying(model, "one", cold=1.0), saying(model, "other-word", rouge=1.0))
    found = interpolate((one, other), vectors)
    at = {(row.task, row.t, row.mixed): row.accuracy for row in found.rows}
    assert at["one", 0.0, True] == at["other-word", 1.0, True] == 1
    assert at["one", 1.0, True] == at["other-word", 0.0, True] == 0
    # alone, the vector is strong enough at half its strength; mixed, the two compete
    assert at["one", 0.5, False] == at["other-word", 0.5, False] == 1
    assert at["one", 0.5, True] + at["other-word", 0.5, True] <= 1
    assert at["one", 1.0, False] < 1  # no vector is left
    figure = found.figure()
    assert isinstance(figure, Figure)
    assert figure.series[0].x == STEPS
    said = ANALYSES["interpolation"].summarise(found.to_frame())
    assert said.startswith("one 100\xa0% at t = 0, ")


def test_vectors_at_different_sites_have_nothing_between_them(
    model: Any, benches: Any, saying: Any
) -> None:
    vector = saying(model, "one", cold=1.0)
    elsewhere = TaskVector(values=vector.values, sites=(Site(layer=0, position=-1),))
    with pytest.raises(TaskVectorsError, match="different sites"):
        interpolate((benches[0], benches[2]), (vector, elsewhere))
    with pytest.raises(TaskVectorsError, match="another task"):
        ANALYSES["interpolation"].run(Case(context=benches[0], vector=vector))


# --- bijections

STEPS_OF_LEARNING = from_zero(
    steps=60, batch_size=6, learning_rate=0.3, patience=None, check_every=20
)
LAST_BLOCK = Configuration(name="last", layers=(3,))


@pytest.fixture(scope="module")
def both_ways(model: Any, small_bench: Any) -> Any:
    """Words that begin with one token on one side and with another on the other.

    At the last block a vector can say one first token only, so one vector has to fail one way.
    """
    context = small_bench(model, "sides", [(f"house {n}", f"cold {n}") for n in range(15)])
    return map_both_ways(context, [LAST_BLOCK], STEPS_OF_LEARNING)


def test_a_vector_that_can_say_one_thing_fails_one_direction_and_says_so(both_ways: Any) -> None:
    rows = {(row.vector, row.direction): row for row in both_ways.rows if row.configuration}
    for direction in ("forward", "backward"):
        assert rows[direction, direction].first_token_accuracy == 1
        assert rows[direction, direction].wrong_direction == 0
        assert rows[direction, direction].difference == 0
    # the other direction's vector gives a word of the query's own side, every time
    assert rows["forward", "backward"].wrong_direction == 1
    assert rows["backward", "forward"].wrong_direction == 1
    both = [rows["both", direction].first_token_accuracy for direction in ("forward", "backward")]
    assert sum(both) <= 1
    assert rows["forward", "backward"].copied == 1  # every word of a side begins alike


def test_demonstrations_of_both_directions_stand_beside(both_ways: Any) -> None:
    plain = [row for row in both_ways.rows if row.vector == "none"]
    assert [(row.shots, row.direction) for row in plain] == [
        (0, "forward"),
        (0, "backward"),
        (2, "forward"),
        (2, "backward"),
    ]
    assert both_ways.n_left_out == 0
    figure = both_ways.figure()
    assert isinstance(figure, Figure)
    assert len(figure.series) == 4
    assert len(figure.series[0].x) == 2
    assert "last, backward " in ANALYSES["bijections"].summarise(both_ways.to_frame())
    assert set(both_ways.to_frame()["task"]) == {"sides"}


def test_a_mapping_whose_words_do_not_tell_the_direction_is_refused_unless_asked_for(
    model: Any, small_bench: Any
) -> None:
    context = small_bench(model, "copy", [(f"house {n}", f"house {n}") for n in range(15)])
    with pytest.raises(DataError, match="0 of 15 pairs"):
        map_both_ways(context, [LAST_BLOCK], STEPS_OF_LEARNING)
    context.task = copying(context.task)
    found = map_both_ways(context, [LAST_BLOCK], STEPS_OF_LEARNING, keeps_unclear=True)
    both = [row for row in found.rows if row.vector == "both"]
    # the exception: both directions are one mapping, so one vector does for both
    assert [row.first_token_accuracy for row in both] == [1, 1]
