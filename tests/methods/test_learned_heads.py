"""`learned-heads`: weighted sums by hand, and weights that learn what is there to be learned.

Run with `pytest tests/methods/test_learned_heads.py`.
"""

from typing import Any

import pytest
import torch
from full_pass import full_logits

from taskvectors.methods.learned_heads import LearnedHeads, learned_heads
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.shared.head_means import head_means
from taskvectors.models.heads import output_weights
from taskvectors.trunk import Edit

QUICK: dict[str, Any] = {"steps": 2, "batch_size": 4, "check_every": 1, "n_prompts": 4}


def test_each_layer_adds_its_heads_results_by_their_weights(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 3, 2))
    (one,) = learned_heads(context, LearnedHeads(start=1.0, **QUICK))
    weights = one.vector.origin.settings["weights"]
    assert one.vector.layers == tuple(range(model.n_layers))
    results = head_means(context, 4).results
    for layer, value in enumerate(one.vector.values):
        expected = sum(w * results[layer, head] for head, w in enumerate(weights[layer]))
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)
    (score,) = score_candidates(context, "validation", [one])
    edits = [Edit(layer=layer, value=value) for layer, value in enumerate(one.vector.values)]
    for index, prompt in enumerate(context.prompts("validation")):
        with torch.no_grad():
            logits = full_logits(model, prompt, edits).log_softmax(dim=-1)
        tokens = torch.tensor(prompt.answer_ids)
        by_hand = logits[torch.arange(len(tokens)), tokens].mean()
        torch.testing.assert_close(score.log_probability[0, index], by_hand, atol=1e-3, rtol=1e-3)


def test_a_weight_acts_before_w_o_which_scaling_slices_of_the_sum_does_not(
    tiny_model: Any, bench_of: Any
) -> None:
    """What the released code does is something else, also with the same weights."""
    model = tiny_model("llama")
    context = bench_of(model, sizes=(6, 3, 2))
    (one,) = learned_heads(context, LearnedHeads(start=1.0, **QUICK))
    weights = torch.tensor(one.vector.origin.settings["weights"])
    z = head_means(context, 4).z
    w_o = output_weights(model, 1)
    before = torch.einsum("h,hd,hdm->m", weights[1], z[1], w_o)
    torch.testing.assert_close(one.vector.values[1], before, atol=1e-4, rtol=1e-4)
    summed = torch.einsum("hd,hdm->m", z[1], w_o)
    sliced = summed * weights[1].repeat_interleave(model.d_model // model.n_heads)
    assert float((one.vector.values[1] - sliced).norm() / before.norm()) > 0.5


def test_training_finds_the_answer_that_a_head_holds(tiny_model: Any, bench_of: Any) -> None:
    """All answers are one token: some mixture of results raises it, and the loss falls."""
    context = bench_of(tiny_model("llama"))
    config = LearnedHeads(steps=60, learning_rate=0.3, patience=6)
    (one,) = learned_heads(context, config)
    before, after = score_candidates(context, "test", [type(one)(method="plain"), one])
    gained = (after.log_probability - before.log_probability).mean()
    assert float(gained) > 1
    assert one.curve[-1]["loss"] < one.curve[0]["loss"]
    assert one.cost.parameters == 16
    assert one.vector.origin.scores["validation_accuracy"] == max(
        point["validation_accuracy"] for point in one.curve
    )


def test_it_trains_on_shuffled_labels_when_asked(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), lambda i: f"{'small' if i % 2 else 'big'} {i}")
    vectors = [
        learned_heads(context, LearnedHeads(trained_on=how, **QUICK))[0].vector
        for how in ("zero-shot", "shuffled-labels")
    ]
    assert not torch.allclose(vectors[0].values, vectors[1].values)


def test_the_first_looks_without_improvement_end_it(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    config = LearnedHeads(steps=50, learning_rate=1e-12, check_every=1, patience=2)
    (one,) = learned_heads(context, config)
    assert one.cost.steps < 10
    assert one.converged


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_the_start_is_drawn_as_asked(tiny_model: Any, bench_of: Any, start: float) -> None:
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    config = LearnedHeads(start=start, learning_rate=1e-9, **QUICK)
    weights = torch.tensor(learned_heads(context, config)[0].vector.origin.settings["weights"])
    assert float(weights.std()) == pytest.approx(start, abs=0.7 * start + 1e-6)
