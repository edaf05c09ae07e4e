"""How training goes: batches, checks, stopping, seeds, costs.

Run with `pytest tests/methods/test_training.py`.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from recipes import from_zero

from taskvectors.methods import Candidate
from taskvectors.methods.learned import Learned, learned
from taskvectors.trunk import Batch, Trunk

ENDLESS = from_zero(steps=24, learning_rate=0.3, schedule="constant", check_every=2, patience=None)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Rows of every mini-batch by index that is asked of a trunk."""
    rows_of: list[list[int]] = []
    batch = Trunk.batch

    def seen(self: Trunk, rows: Sequence[int] | None = None, **about: Any) -> Batch:
        if rows is not None:
            rows_of.append(list(rows))
        return batch(self, rows, **about)

    monkeypatch.setattr(Trunk, "batch", seen)
    return rows_of


def merits(one: Candidate) -> list[tuple[float, float]]:
    return [(point["validation_accuracy"], point["validation_logprob"]) for point in one.curve]


def overtrained(every: int) -> Any:
    """Answers that training shows every so often, and validation always.

    Learning them helps on validation until the others are learned better.
    """
    return lambda number: "small" if number >= 12 or number % every == 0 else "cold"


def rescored(context: Any, one: Candidate) -> tuple[float, float]:
    """Validation accuracy and log-probability of the vector that was kept."""
    found = context.score("validation", one.shots, [one.branch(())])
    return float(found.is_correct.double().mean()), float(found.log_probability.mean())


# --- batches


def test_every_prompt_is_seen_once_before_any_is_seen_again(
    tiny_model: Any, bench_of: Any, drawn: list[list[int]]
) -> None:
    context = bench_of(tiny_model("llama"))
    learned(context, Learned(layers=(1,), recipe=from_zero(steps=6, batch_size=4)))
    assert [len(rows) for rows in drawn] == [4] * 6
    for epoch in (drawn[:3], drawn[3:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(12))
    assert drawn[:3] != drawn[3:]


def test_a_batch_is_at_most_all_prompts(
    tiny_model: Any, bench_of: Any, drawn: list[list[int]]
) -> None:
    learned(
        bench_of(tiny_model("llama")),
        Learned(layers=(1,), n_examples=5, recipe=from_zero(steps=2, batch_size=32)),
    )
    assert [sorted(rows) for rows in drawn] == [[0, 1, 2, 3, 4]] * 2


def test_training_uses_the_first_pairs_and_says_how_many(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = tiny_model("llama")
    recipe = from_zero(steps=3, check_every=1)
    few = learned(bench_of(model, mixed), Learned(n_examples=5, recipe=recipe))
    other = bench_of(model, lambda number: mixed(number) if number < 5 or number > 11 else "hot")
    again = learned(other, Learned(n_examples=5, recipe=recipe))
    for one, same in zip(few, again, strict=True):
        assert one.cost.examples == 5
        assert torch.equal(one.vector.values, same.vector.values)


# --- checks and stopping


def test_the_vector_of_the_best_check_is_kept(tiny_model: Any, bench_of: Any) -> None:
    """By accuracy first, then by log-probability; here it is seldom the last one."""
    context = bench_of(tiny_model("llama"), overtrained(4))
    found = learned(context, Learned(recipe=ENDLESS))
    places = []
    for one in found:
        best = max(merits(one))
        places.append(merits(one).index(best))
        assert rescored(context, one) == pytest.approx(best, abs=1e-4)
        assert one.vector.origin.scores["validation_accuracy"] == best[0]
        assert one.converged is False
        assert [point["step"] for point in one.curve] == list(range(2, 25, 2))
    assert 0 < min(places) < 11
    by_logprob = [[logprob for _, logprob in merits(one)] for one in found]
    assert places != [curve.index(max(curve)) for curve in by_logprob]


def test_training_stops_after_as_many_checks_without_improvement_as_asked(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), overtrained(6))
    patient = ENDLESS.model_copy(update={"patience": 2})
    stopped = []
    for one, on in zip(
        learned(context, Learned(recipe=patient)),
        learned(context, Learned(recipe=ENDLESS)),
        strict=True,
    ):
        expected, best, waited = 12, (-1.0, -float("inf")), 0
        for number, merit in enumerate(merits(on), start=1):
            best, waited = (merit, 0) if merit > best else (best, waited + 1)
            if waited == 2:
                expected = number
                break
        stopped.append(expected)
        assert one.cost.steps == 2 * expected
        assert one.converged is (waited >= 2)
        # that others have stopped changes nothing for those that go on
        for mine, its in zip(one.curve, on.curve, strict=False):
            assert mine == pytest.approx(its, abs=2e-3)
        assert len(one.curve) == expected
    assert min(stopped) < max(stopped) == 12


def test_the_last_step_is_checked_even_between_checks(tiny_model: Any, bench_of: Any) -> None:
    recipe = from_zero(steps=5, check_every=3)
    (one,) = learned(bench_of(tiny_model("llama")), Learned(layers=(1,), recipe=recipe))
    assert [point["step"] for point in one.curve] == [3, 5]


def test_a_vector_trained_with_demonstrations_is_checked_with_them(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    context = bench_of(tiny_model("llama"), mixed)
    recipe = from_zero(steps=2, check_every=1)
    (one,) = learned(context, Learned(layers=(1,), train_shots=2, recipe=recipe))
    assert one.shots == 2
    assert rescored(context, one) == pytest.approx(max(merits(one)), abs=1e-4)
    (other,) = learned(context, Learned(layers=(1,), recipe=recipe))
    assert merits(other)[0] != pytest.approx(merits(one)[0], abs=1e-4)


# --- seeds


def test_a_seed_repeats_bit_for_bit(tiny_model: Any, bench_of: Any, mixed: Any) -> None:
    recipe = from_zero(steps=4, batch_size=5, initialisation="normal", check_every=2)
    runs = [
        learned(bench_of(tiny_model("gemma2"), mixed, seed=seed), Learned(recipe=recipe))
        for seed in (7, 7, 8)
    ]
    for one, same, other in zip(*runs, strict=True):
        assert torch.equal(one.vector.values, same.vector.values)
        assert one.curve == same.curve
        assert not torch.equal(one.vector.values, other.vector.values)


def test_a_seed_draws_other_batches_even_from_the_same_start(
    tiny_model: Any, bench_of: Any, drawn: list[list[int]]
) -> None:
    for seed in (0, 1):
        learned(
            bench_of(tiny_model("llama"), seed=seed),
            Learned(layers=(1,), recipe=from_zero(steps=1, batch_size=4)),
        )
    assert drawn[0] != drawn[1]


def test_global_random_state_and_gradient_mode_are_left_as_they_were(
    tiny_model: Any, bench_of: Any
) -> None:
    model = tiny_model("llama")
    state = torch.get_rng_state()
    with torch.no_grad():
        learned(bench_of(model), Learned(recipe=from_zero(steps=1, initialisation="normal")))
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())


# --- cost


def test_a_vector_costs_its_numbers_steps_and_examples(tiny_model: Any, bench_of: Any) -> None:
    model = tiny_model("llama")
    config = Learned(layers=(0, 2), positions=(-1, -2), recipe=from_zero(steps=3))
    (one,) = learned(bench_of(model), config)
    assert one.cost.parameters == 4 * model.d_model
    assert (one.cost.steps, one.cost.examples) == (3, 12)
    assert one.cost.seconds > 0
    assert one.cost.seconds_per_step is not None
    assert one.cost.peak_bytes is not None
    assert one.cost.peak_bytes >= 0


def test_tokens_are_those_of_the_trunks_and_of_each_steps_blocks(
    tiny_model: Any, bench_of: Any
) -> None:
    """One trunk each for 12 and 6 prompts, then 4 + 6 prompts' last token through the blocks."""
    context = bench_of(tiny_model("llama"))
    recipe = from_zero(steps=5, batch_size=4, check_every=5)
    trunks = sum(
        len(prompt.token_ids) + len(prompt.answer_ids) - 1
        for split in ("train", "validation")
        for prompt in context.prompts(split)
    )
    for layer, share in ((1, 0.5), (3, 0.0)):
        (one,) = learned(context, Learned(layers=(layer,), recipe=recipe))
        assert one.cost.forward_tokens == round(trunks + (5 * 4 + 6) * share)
