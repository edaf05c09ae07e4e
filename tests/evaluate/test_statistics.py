"""Intervals: known values, the equation they solve, and how often they hold the truth.

Run with `pytest tests/evaluate/test_statistics.py`.
"""

from math import isclose

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvectors.evaluate import paired_difference, pooled_interval, wilson_interval

Z = 1.959963984540054
# Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3
PUBLISHED = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611)}


def marks(hits: int, n: int) -> torch.Tensor:
    return torch.arange(n) < hits


# --- a share


@pytest.mark.parametrize(("counts", "expected"), PUBLISHED.items())
def test_wilson_intervals_are_the_published_ones(
    counts: tuple[int, int], expected: tuple[float, float]
) -> None:
    assert wilson_interval(*counts) == pytest.approx(expected, abs=5e-5)


@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_wilson_limits_are_where_the_score_test_just_rejects(n: int, share: float) -> None:
    hits = round(share * n)
    for limit in wilson_interval(hits, n):
        if 1e-9 < limit < 1 - 1e-9:  # 0 and 1 are cut off there
            distance = abs(hits / n - limit)
            assert isclose(distance, Z * (limit * (1 - limit) / n) ** 0.5, rel_tol=1e-6)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_intervals_hold_the_share_and_mirror(n: int, share: float) -> None:
    hits = round(share * n)
    low, high = wilson_interval(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    assert wilson_interval(n - hits, n) == pytest.approx((1 - high, 1 - low))


def test_more_prompts_make_a_narrower_interval() -> None:
    widths = [high - low for low, high in (wilson_interval(n // 4, n) for n in (8, 40, 400))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_share_has_no_interval(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        wilson_interval(hits, n)


# --- a difference


def test_identical_answers_differ_by_exactly_nothing() -> None:
    same = [marks(3, 10), marks(7, 12)]
    found = paired_difference(same, same)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_mean_is_over_seeds_and_not_over_prompts() -> None:
    ours = [marks(2, 2), marks(0, 100)]
    theirs = [marks(0, 2), marks(0, 100)]
    assert paired_difference(ours, theirs).mean == pytest.approx(0.5)


def test_the_difference_changes_sign_with_the_sides() -> None:
    ours, theirs = [marks(8, 20)], [marks(3, 20)]
    one, other = paired_difference(ours, theirs), paired_difference(theirs, ours)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_the_same_seed_draws_the_same_interval() -> None:
    ours, theirs = [marks(9, 30)], [marks(5, 30).flip(0)]
    assert paired_difference(ours, theirs, seed=3) == paired_difference(ours, theirs, seed=3)
    assert paired_difference(ours, theirs, seed=3) != paired_difference(ours, theirs, seed=4)


def test_pairing_counts_prompts_that_both_answer_alike_as_no_difference() -> None:
    """Two methods right on the same half of the prompts, but for two prompts."""
    theirs = marks(100, 200)
    ours = theirs.clone()
    ours[100:102] = True
    paired = paired_difference([ours], [theirs])
    unpaired = paired_difference([ours], [theirs.flip(0)])
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_with_one_seed_the_interval_is_that_of_the_prompts() -> None:
    """Against the normal approximation, which is close for 400 prompts."""
    generator = torch.Generator().manual_seed(0)
    ours = torch.rand(400, generator=generator) < 0.7
    theirs = torch.rand(400, generator=generator) < 0.4
    difference = ours.double() - theirs.double()
    spread = Z * float(difference.std(correction=0)) / 20
    found = paired_difference([ours], [theirs], n_draws=20_000)
    assert found.mean == pytest.approx(float(difference.mean()))
    assert found.low == pytest.approx(found.mean - spread, abs=0.1 * spread)
    assert found.high == pytest.approx(found.mean + spread, abs=0.1 * spread)


def test_seeds_that_disagree_widen_the_interval() -> None:
    def wins(n: int) -> torch.Tensor:
        return marks(n, 100)

    nothing = [marks(0, 100)] * 4
    agreeing = paired_difference([wins(50)] * 4, nothing)
    disagreeing = paired_difference([wins(20), wins(40), wins(60), wins(80)], nothing)
    assert agreeing.mean == pytest.approx(disagreeing.mean)
    assert disagreeing.high - disagreeing.low > 1.5 * (agreeing.high - agreeing.low)


def test_the_two_stages_have_the_variance_of_two_stages() -> None:
    """Seeds drawn, then prompts of each drawn seed, anew for a seed that is drawn twice."""
    wins = [20, 40, 60, 80]
    shares = torch.tensor(wins, dtype=torch.float64) / 100
    between = float(shares.var(correction=0)) / 4
    within = float((shares * (1 - shares) / 100).mean()) / 4
    spread = Z * (between + within) ** 0.5
    equal = paired_difference([marks(50, 100)] * 4, [marks(0, 100)] * 4, n_draws=40_000)
    # with equal seeds only the prompts vary: 400 of them
    assert (equal.high - equal.low) / 2 == pytest.approx(Z * (0.25 / 400) ** 0.5, rel=0.06)
    found = paired_difference([marks(w, 100) for w in wins], [marks(0, 100)] * 4, n_draws=40_000)
    assert (found.high - found.low) / 2 == pytest.approx(spread, rel=0.06)


def test_the_interval_holds_a_planted_difference_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    held = 0
    for trial in range(150):
        ours = torch.rand(120, generator=generator) < 0.6
        theirs = torch.rand(120, generator=generator) < 0.45
        found = paired_difference([ours], [theirs], n_draws=400, seed=trial)
        held += found.low <= 0.15 <= found.high
    assert 0.88 <= held / 150 <= 0.99


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([marks(1, 3)], [marks(1, 4)]),
        ([marks(1, 3)], [marks(1, 3), marks(1, 3)]),
        ([], []),
    ],
    ids=["other prompts", "other seeds", "nothing"],
)
def test_what_cannot_be_paired_is_an_error(
    ours: list[torch.Tensor], theirs: list[torch.Tensor]
) -> None:
    with pytest.raises(ValueError, match="the same prompts on both sides"):
        paired_difference(ours, theirs)


# --- over several seeds


def test_a_pooled_interval_is_the_bootstrap_over_seeds_and_prompts() -> None:
    generator = torch.Generator().manual_seed(3)
    hits = [torch.rand(60, generator=generator) < share for share in (0.6, 0.7, 0.8)]
    nothing = [torch.zeros(60, dtype=torch.bool)] * 3
    found = paired_difference(hits, nothing)
    assert pooled_interval(hits) == (found.low, found.high)


@pytest.mark.parametrize("sizes", [(40,), (40, 60, 50)])
def test_all_right_or_all_wrong_is_as_uncertain_as_the_smallest_split_alone(
    sizes: tuple[int, ...],
) -> None:
    right = [torch.ones(n, dtype=torch.bool) for n in sizes]
    low, high = pooled_interval(right)
    assert (low, high) == wilson_interval(40, 40)
    assert low < 0.92
    assert pooled_interval([~hit for hit in right]) == pytest.approx((1 - high, 1 - low))


def test_one_answer_that_differs_is_for_the_bootstrap_again() -> None:
    hits = [torch.ones(40, dtype=torch.bool) for _ in range(3)]
    hits[1][5] = False
    low, high = pooled_interval(hits)
    assert 0.9 < low < 1 - 1 / 120 < high <= 1


def test_without_prompts_there_is_no_pooled_interval() -> None:
    for empty in ([], [torch.zeros(0, dtype=torch.bool)]):
        with pytest.raises(ValueError, match="not a share"):
            pooled_interval(empty)
