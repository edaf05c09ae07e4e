"""The headline is computed, and honest for every outcome."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskvectors.report.old import Headline, headline, read_run
from taskvectors.report.old.standing import chosen_rows

MakeRun = Callable[..., Path]
ICL = {"selected": True, "shots": 8, "examples": 8}


@pytest.fixture
def say(make_run: MakeRun, row: Callable[..., dict[str, Any]]) -> Callable[..., Headline]:
    """The headline of the given rows, with plain spaces and minus signs."""

    def plain(text: str) -> str:
        return (
            text.replace("\N{NO-BREAK SPACE}", " ")
            .replace("\N{MINUS SIGN}", "-")
            .replace("\N{EN DASH}", "-")
        )

    def of(*rows: dict[str, Any]) -> Headline:
        made = headline(read_run(make_run(rows=list(rows))))
        return Headline(
            sentence=plain(made.sentence),
            verdict=plain(made.verdict),
            cautions=tuple(plain(caution) for caution in made.cautions),
        )

    return of


@pytest.fixture
def learned(row: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A selected learned vector at layer 9 with a paired difference."""

    def of(accuracy: float = 0.75, difference: Any = (0.05, -0.03, 0.13), **more: Any) -> Any:
        middle, low, high = difference
        values = {"layers": [9], "positions": [-1], "parameters": 640, "selected": True}
        values |= {"difference_to_icl": middle, "difference_low": low, "difference_high": high}
        return row("learned", accuracy, **(values | more))

    return of


def test_the_sentence_holds_the_numbers_of_the_rows(say, row, learned) -> None:
    said = say(
        row("zero-shot", 0.0127, selected=True),
        row("icl", 0.7, **ICL),
        learned(0.75, ci_low=0.645, ci_high=0.832),
    )
    assert said.sentence == (
        "A vector of 640 numbers, added after layer 9, answers 75 % of 79 test items [64-83 %]; "
        "eight demonstrations 70 %; without either 1 %."
    )


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((0.15, 0.04, 0.26), "does better than eight demonstrations"),
        ((-0.15, -0.26, -0.04), "does worse than eight demonstrations"),
        ((0.01, -0.01, 0.03), "does at least about as well as eight demonstrations"),
        ((0.05, -0.03, 0.13), "do not decide between the vector and eight demonstrations"),
        ((0.0, -0.2, 0.2), "do not decide between"),
        ((-0.05, -0.1, 0.0), "do not decide between"),
        ((0.05, None, None), "it has no interval"),
        ((None, None, None), "was not measured"),
    ],
)
def test_the_verdict_follows_the_paired_interval(say, row, learned, difference, verdict) -> None:
    said = say(row("icl", 0.7, **ICL), learned(difference=difference))
    assert verdict in said.verdict


def test_the_verdict_gives_the_difference_and_its_interval(say, row, learned) -> None:
    said = say(row("icl", 0.7, **ICL), learned(difference=(-0.151, -0.26, -0.04)))
    assert "-15.1 points [-26.0 to -4.0]" in said.verdict


def test_one_seed_claims_no_more_than_one_seed(say, row, learned) -> None:
    said = say(row("icl", 0.1, **ICL), learned(difference=(0.6, 0.5, 0.7)))
    assert (
        "This is one seed; saying that one method is at least as good as another takes five."
        in (said.cautions)
    )


def test_several_seeds_are_summed_up_by_mean_and_range(say, row, learned) -> None:
    rows = []
    for seed, share in enumerate((0.6, 0.7, 0.8, 0.7, 0.7)):
        rows.append(row("icl", 0.65, seed=seed, **ICL))
        rows.append(learned(share, difference=(share - 0.65, -1, 1), seed=seed))
    said = say(*rows)
    assert "answers 70 % of the test items, mean of five seeds (seeds: 60-80 %)" in said.sentence
    assert "ahead of eight demonstrations in four of five seeds: +5.0 points" in said.verdict
    assert not any("seed" in caution for caution in said.cautions)


def test_layers_that_differ_between_seeds_are_not_named(say, row, learned) -> None:
    said = say(learned(seed=0), learned(seed=1, layers=[5]))
    assert "added after the layer that validation chose" in said.sentence


@pytest.mark.parametrize(
    ("method", "share", "words"),
    [
        ("logit-bias", 0.75, "reaches 75 %: what it stands for is not ruled out"),
        ("shuffled-labels", 0.9, "reaches 90 %: what it stands for is not ruled out"),
        ("majority", 0.6, "reaches 60 %: what it stands for is not clearly ruled out"),
    ],
)
def test_a_control_that_does_as_well_is_said_to(say, row, learned, method, share, words) -> None:
    said = say(learned(0.75, ci_low=0.65), row(method, share, is_control=True))
    assert any(words in caution for caution in said.cautions)


def test_a_control_far_below_is_no_caution(say, row, learned) -> None:
    said = say(learned(0.75, ci_low=0.65), row("logit-bias", 0.3, is_control=True))
    assert not any("ruled out" in caution for caution in said.cautions)


def test_a_comparison_row_above_the_vector_is_not_taken_for_a_control(say, row, learned) -> None:
    said = say(learned(0.75), row("icl-most-shots", 0.95, is_control=True))
    assert not any("ruled out" in caution for caution in said.cautions)


def test_a_model_that_needs_no_vector_is_said_to(say, row, learned) -> None:
    said = say(row("zero-shot", 0.8, selected=True), learned(0.75))
    assert "without it 80 %" in said.sentence
    assert any(
        "Without anything the model reaches 80 % already" in caution for caution in said.cautions
    )


def test_a_vector_still_improving_is_said_to(say, row, learned) -> None:
    assert any("still improving" in caution for caution in say(learned(converged=False)).cautions)
    assert not any("improving" in caution for caution in say(learned(converged=True)).cautions)


def test_a_failed_learner_leaves_the_headline_to_the_next_vector(say, row) -> None:
    said = say(
        row("vanilla", 0.3, selected=True, layers=[4], parameters=640),
        row("learned", selected=True, error="out of memory"),
    )
    assert said.sentence.startswith("A vector of 640 numbers read from demonstrations, added after")
    assert "Learned vector failed; the reason is in its row." in said.cautions


def test_a_run_without_vectors_says_so(say, row) -> None:
    said = say(row("zero-shot", 0.01, selected=True), row("icl", 0.7, **ICL))
    assert said.sentence == (
        "Eight demonstrations answer 70 % of 79 test items; without them 1 %; "
        "no vector was measured."
    )


def test_a_run_in_which_every_method_failed_says_so(say, row) -> None:
    said = say(row("learned", error="out of memory"))
    assert said.sentence == "This run measured no method successfully."


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([4, 9], "Vectors of 1,280 numbers in all, added after layers 4 and 9, answer 75 %"),
        (["embed"], "A vector of 1,280 numbers, added at the embeddings, answers 75 %"),
        (["embed", "3"], "added at the embeddings and after layer 3, answer"),
    ],
)
def test_every_kind_of_place_is_put_in_words(say, row, learned, layers, words) -> None:
    rows = [learned(layers=[str(layer) for layer in layers], parameters=1280)]
    assert words in say(*rows).sentence


def test_positions_other_than_the_last_are_named(say, learned) -> None:
    assert (
        "after layer 9 at positions 4 and -1, answers" in say(learned(positions=[4, -1])).sentence
    )


def test_the_layer_is_taken_by_validation_and_never_by_test(say, learned) -> None:
    said = say(
        learned(0.9, layers=[3], validation_accuracy=0.5),
        learned(0.6, layers=[7], validation_accuracy=0.8),
    )
    assert "after layer 7, answers 60 %" in said.sentence


def test_shares_next_to_nothing_are_not_rounded_to_it(say, row, learned) -> None:
    said = say(row("zero-shot", 0.002, selected=True), row("icl", 0.999, **ICL), learned())
    assert "eight demonstrations over 99 %; without either under 1 %" in said.sentence


@pytest.mark.parametrize(
    ("low", "claim"), [(0.01, "at least as good"), (-0.05, "which decides nothing")]
)
def test_a_pooled_row_gives_the_interval_and_is_not_a_further_seed(
    say, make_run, row, learned, low, claim
) -> None:
    rows = [
        {**one, "seed": seed}
        for seed in range(5)
        for one in (row("zero-shot", 0.01, selected=True), row("icl", 0.7, **ICL), learned(0.75))
    ]
    rows.append({**learned(0.75, (0.05, low, 0.09)), "seed": None})
    said = say(*rows)
    assert "mean of five seeds" in said.sentence
    assert claim in said.verdict
    run = read_run(make_run(rows=rows))
    assert [held.seed for held in chosen_rows(run) if held.method == "learned"] == [None]
