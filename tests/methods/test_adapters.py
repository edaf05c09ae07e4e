"""Adapters as methods: one step by hand, scores by a loop, what is kept, what it costs.

Run with `pytest tests/methods/test_adapters.py`.
"""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from recipes import from_zero

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.methods.bitfit import BitFit
from taskvectors.methods.ia3 import IA3
from taskvectors.methods.lora import Lora
from taskvectors.methods.prefix_tuning import PrefixTuning
from taskvectors.methods.prompt_tuning import PromptTuning
from taskvectors.methods.shared.adapters import adapters, train_adapter
from taskvectors.methods.shared.choosing import score_candidates

QUICK: dict[str, Any] = {"steps": 1, "batch_size": 99, "check_every": 1, "learning_rates": (0.01,)}
KINDS = {
    "prompt-tuning": PromptTuning,
    "prefix-tuning": PrefixTuning,
    "lora": Lora,
    "ia3": IA3,
    "bitfit": BitFit,
}


def answer_logits(model: Any, hf: Any, prompt: Any) -> torch.Tensor:
    """What predicts the answer, from peft's own forward pass of one prompt."""
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's name for the cache
        logits: torch.Tensor = hf(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    return logits[0, -len(prompt.answer_ids) :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_is_a_step_of_adamw_on_the_loss_of_whole_passes(
    fresh_model: Any, bench_of: Any, mixed: Any, kind: str
) -> None:
    model = fresh_model("gpt2")
    context = bench_of(model, mixed, sizes=(5, 2, 2))
    adapter = KINDS[kind]().build(model, "matched", 0)
    recipe = from_zero(steps=1, batch_size=99, learning_rate=0.02, rate="absolute", check_every=1)
    found = train_adapter(context, adapter, recipe)
    assert found is not None
    with adapter.on(model) as adapted:
        optimizer = torch.optim.AdamW(adapted.parameters.values(), lr=0.02, weight_decay=0.01)
        losses = []
        for prompt in context.prompts("train"):
            logits = answer_logits(model, adapted.hf, prompt)
            target = torch.tensor(prompt.answer_ids)
            losses.append(torch.nn.functional.cross_entropy(logits, target))
        loss = torch.stack(losses).mean()
        loss.backward()
        gradients = [value.grad for value in adapted.parameters.values()]
        optimizer.step()
        expected = adapted.weights()
    assert found.curve[0]["loss"] == pytest.approx(float(loss.detach()), abs=1e-4)
    assert found.adapter.weights.keys() == expected.keys()
    for (name, value), gradient in zip(found.adapter.weights.items(), gradients, strict=True):
        # Adam's first step is a sign, which rounding decides where a gradient is next to nothing
        clear = gradient.abs() > 1e-4
        torch.testing.assert_close(value[clear], expected[name][clear], atol=1e-4, rtol=1e-3)


def test_an_adapter_is_scored_as_a_loop_over_whole_passes_scores_it(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed)
    config = Lora(sizes=("default",), steps=3, check_every=3, learning_rates=(0.3,))
    (one,) = adapters(context, config)
    (scores,) = score_candidates(context, "test", [one])
    labels = [tuple(tokens) for tokens in context.labels.values()]
    names = list(context.labels)
    with torch.no_grad(), one.adapter.on(model) as adapted:
        for number, prompt in enumerate(context.prompts("test")):
            logits = answer_logits(model, adapted.hf, prompt).log_softmax(dim=-1)
            answer = torch.tensor(prompt.answer_ids)
            chosen = logits.gather(1, answer.unsqueeze(1)).mean()
            hits = logits.argmax(dim=-1) == answer
            assert bool(scores.is_correct[0, number]) == bool(hits.all())
            assert bool(scores.first_is_correct[0, number]) == bool(hits[0])
            assert float(scores.log_probability[0, number]) == pytest.approx(
                float(chosen), abs=1e-4
            )
            sums = []
            for label in labels:
                asked = replace(prompt, answer_ids=label)
                by_label = answer_logits(model, adapted.hf, asked).log_softmax(dim=-1)
                sums.append(float(by_label.gather(1, torch.tensor(label).unsqueeze(1)).sum()))
            best = names[sums.index(max(sums))]
            assert bool(scores.label_is_correct[0, number]) == (best == prompt.query.output)


def test_scores_do_not_depend_on_the_memory(tiny_model: Any, bench_of: Any, mixed: Any) -> None:
    model = tiny_model("llama")
    context = bench_of(model, mixed)
    (one,) = adapters(context, PromptTuning(sizes=("matched",), **QUICK))
    small = bench_of(model, mixed, memory=700_000)
    for ample, tight in zip(
        score_candidates(context, "test", [one]),
        score_candidates(small, "test", [one]),
        strict=True,
    ):
        assert torch.equal(ample.is_correct, tight.is_correct)
        torch.testing.assert_close(
            ample.log_probability, tight.log_probability, atol=1e-4, rtol=1e-4
        )


def test_the_test_split_is_scored_in_the_other_model_where_there_is_one(
    fresh_model: Any, bench_of: Any, mixed: Any
) -> None:
    model = fresh_model("llama")
    model.hf.to(torch.bfloat16)
    exact = fresh_model("llama")
    context = bench_of(model, mixed, test_model=exact)
    (one,) = adapters(context, Lora(sizes=("default",), **QUICK))
    (found,) = score_candidates(context, "test", [one])
    (expected,) = score_candidates(bench_of(exact, mixed), "test", [one])
    assert torch.equal(found.log_probability, expected.log_probability)
    assert all(value.dtype == torch.float32 for value in one.adapter.weights.values())
    (rounded,) = score_candidates(context, "validation", [one])
    assert rounded.log_probability.isfinite().all()


@pytest.mark.parametrize("kind", ["prompt-tuning", "prefix-tuning", "lora", "ia3"])
def test_a_planted_answer_is_learned(tiny_model: Any, bench_of: Any, kind: str) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    config = KINDS[kind](
        sizes=("default",), steps=40, check_every=5, learning_rates=(0.1,), batch_size=12
    )
    (one,) = adapters(context, config)
    plain = float(context.score("test", 0).log_probability.mean())
    (scores,) = score_candidates(context, "test", [one])
    assert float(scores.log_probability.mean()) > plain + 1.0


def test_the_best_rate_on_validation_is_kept_and_all_are_in_the_cost(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    about: dict[str, Any] = {"sizes": ("matched",), "steps": 4, "check_every": 2, "patience": None}
    rates = (1e-5, 0.2)
    apart = [adapters(context, PromptTuning(learning_rates=(rate,), **about))[0] for rate in rates]
    (both,) = adapters(context, PromptTuning(learning_rates=rates, **about))
    reached = [float(one.curve[-1]["validation_logprob"]) for one in apart]
    assert reached[1] > reached[0]
    assert both.configuration == "1 token, rate 0.2"
    assert both.cost.steps == 8
    assert both.cost.forward_tokens == sum(one.cost.forward_tokens for one in apart)
    assert both.cost.parameters == context.model.d_model
    assert both.cost.examples == 12
    assert both.cost.seconds_per_step is not None
    assert both.cost.peak_bytes is not None


def test_a_rate_that_blows_up_is_left_out_and_alone_is_an_error(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    about: dict[str, Any] = {"sizes": ("default",), "steps": 2, "check_every": 2}
    (one,) = adapters(context, Lora(learning_rates=(1e30, 0.01), **about))
    assert one.configuration.endswith("rate 0.01")
    with pytest.raises(TaskVectorsError, match="no learning rate of 1e\\+30 gives finite losses"):
        adapters(context, Lora(learning_rates=(1e30,), **about))


def test_a_bias_where_the_model_has_none_has_no_meaning(tiny_model: Any, bench_of: Any) -> None:
    with pytest.raises(TaskVectorsError, match="bitfit has no meaning for tiny-llama"):
        adapters(bench_of(tiny_model("llama")), BitFit(**QUICK))


def test_a_budget_that_does_not_hold_a_step_is_an_error(tiny_model: Any, bench_of: Any) -> None:
    with pytest.raises(MemoryBudgetError, match="smaller batch"):
        adapters(bench_of(tiny_model("llama"), memory=100_000), Lora(**QUICK))
