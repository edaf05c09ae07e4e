"""The extracted vector is kept where training does no better on validation.

Run with `pytest tests/methods/test_fallback.py`.
"""

import sys
from typing import Any

import pytest
import torch

from taskvectors.methods import Recipe
from taskvectors.methods.learned import Learned, learned, named_recipe
from taskvectors.methods.training import train_vectors
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.vectors import Site

SITES = [(Site(1, -1),), (Site(2, -1),)]
STILL = Recipe(steps=1, learning_rate=1e-9)
KEEPS = STILL.model_copy(update={"fallback": "vanilla"})
GOOD = Recipe(steps=20, learning_rate=0.2, check_every=20)


def test_the_better_of_trained_and_given_is_kept_vector_by_vector(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"))
    good = [one.values for one in train_vectors(context, SITES, GOOD)]
    bad = torch.zeros_like(good[0])
    first, second = train_vectors(context, SITES, STILL, fallbacks=[good[0], bad])
    assert first.is_fallback
    assert torch.equal(first.values, good[0])
    assert first.validation_accuracy >= max(p["validation_accuracy"] for p in first.curve)
    # the control: what is no better than the trained vector is not kept
    for one in train_vectors(context, SITES, GOOD, fallbacks=[bad, bad]):
        assert not one.is_fallback
    (alone,) = train_vectors(context, SITES[:1], STILL)
    assert not alone.is_fallback
    assert not torch.equal(alone.values, good[0])
    assert second.strength == 1


def merit(context: Any, candidate: Any) -> tuple[float, float]:
    found = context.score("validation", 0, [candidate.branch(())])
    return float(found.is_correct.double().mean()), float(found.log_probability.mean())


def test_at_every_layer_learned_is_at_least_vanilla_on_validation(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"))
    extracted = vanilla(context, Vanilla(strengths=(1.0,)))
    with_it = learned(context, Learned(settings=KEEPS))
    without = learned(context, Learned(settings=STILL))
    gained = []
    for own, other, plain in zip(with_it, extracted, without, strict=True):
        is_kept = own.vector.origin.settings["kept"] == "extracted"
        assert bool(own.note) is is_kept
        if is_kept:
            torch.testing.assert_close(own.vector.values, other.vector.values)
        at_least, best = merit(context, other), merit(context, own)
        assert best[0] >= at_least[0]
        assert best[1] >= at_least[1] - 1e-4 or best[0] > at_least[0]
        assert plain.vector.origin.settings["kept"] == "trained"
        gained.append(best > merit(context, plain))
    assert any(gained)  # or nothing here would show that it acts


@pytest.mark.parametrize(
    "config",
    [
        Learned(layers=(1,), settings=KEEPS, train_shots=2),
        Learned(layers=(1,), settings=KEEPS, n_examples=5),
        Learned(layers=(1,), settings=STILL),
        Learned(layers=(1,), recipe="paper"),
    ],
    ids=["demonstrations", "few pairs", "none", "paper"],
)
def test_where_there_is_no_fallback_none_is_extracted(
    tiny_model: Any, bench_of: Any, config: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def seen(*args: Any, fallbacks: Any) -> list[Any]:
        given.append(fallbacks)
        return []

    monkeypatch.setattr(sys.modules[learned.__module__], "train_vectors", seen)
    with pytest.raises(ValueError, match="shorter"):  # nothing was trained
        learned(bench_of(tiny_model("llama")), config)
    assert given == [None]


def test_the_project_s_own_recipe_has_the_fallback() -> None:
    assert Learned().training.fallback == "vanilla"
    assert Learned(recipe="released-code").training.fallback == "none"
    assert named_recipe("ours") == Learned().training
