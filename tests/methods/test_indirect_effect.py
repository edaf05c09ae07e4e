"""Head means and indirect effects against one whole pass per prompt and head.

Run with `pytest tests/methods/test_indirect_effect.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from full_pass import full_logits
from torch import Tensor

from taskvectors.methods.shared.head_means import head_means
from taskvectors.methods.shared.indirect_effect import (
    attributed_effects,
    exact_effects,
    first_token_trunk,
    indirect_effects,
    label_shuffled_prompts,
    rank_correlation,
)
from taskvectors.models import capture
from taskvectors.models.heads import output_bias
from taskvectors.trunk import Edit, shape_of
from taskvectors.trunk.memory import trunk_bytes, work_bytes


def read_at_last(model: Any, prompt: Any, layer: int, component: Any) -> Tensor:
    kept: list[Tensor] = []
    with torch.no_grad(), capture(model, layer, component, kept.append):
        model.hf(input_ids=torch.tensor([prompt.token_ids]))
    return kept[0][0, -1]


def probability(model: Any, prompt: Any, *edits: Edit) -> float:
    """Of the answer's first token, from one whole pass."""
    with torch.no_grad():
        logits = full_logits(model, prompt, edits)[0]
    return float(logits.softmax(dim=-1)[prompt.answer_ids[0]])


def by_loop(model: Any, prompts: Any, z: Tensor) -> Tensor:
    """Effects of all heads, `[prompt, layer, head]`: the formula, a pass per prompt and head."""
    n_layers, n_heads = z.shape[:2]
    effects = torch.zeros(len(prompts), n_layers, n_heads)
    for row, prompt in enumerate(prompts):
        plain = probability(model, prompt)
        for layer in range(n_layers):
            for head in range(n_heads):
                given = Edit(
                    layer=layer, component="z", head=head, operation="replace", value=z[layer, head]
                )
                effects[row, layer, head] = probability(model, prompt, given) - plain
    return effects


def test_means_are_those_of_whole_passes_and_results_add_up_to_attention(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    means = head_means(context, 4)
    prompts = context.prompts("train", context.shots)[:4]
    for layer in range(model.n_layers):
        z = torch.stack([read_at_last(model, prompt, layer, "z") for prompt in prompts])
        torch.testing.assert_close(means.z[layer].flatten(), z.mean(0), atol=1e-4, rtol=1e-4)
        added = torch.stack([read_at_last(model, prompt, layer, "attn_out") for prompt in prompts])
        if model.post_attention_norm(layer) is None:  # no bias is left over where a norm follows
            added = added - output_bias(model, layer)
        torch.testing.assert_close(
            means.results[layer].sum(dim=0), added.mean(0), atol=1e-4, rtol=1e-4
        )
    assert head_means(context, 4) is means


def test_exact_effects_are_those_of_one_whole_pass_per_prompt_and_head(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    means = head_means(context, 6)
    prompts, _ = label_shuffled_prompts(context, 3, 6)
    found, _ = exact_effects(first_token_trunk(model, prompts), means.z)
    expected = by_loop(model, prompts, means.z)
    scale = float(expected.abs().max())  # random models give right answers small probabilities
    assert scale > 1e-4
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-3, rtol=0)


def test_attributed_effects_are_the_slope_of_the_exact_ones(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    """Each head a small step towards its mean: what that does, scaled up, is the first order."""
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    means = head_means(context, 6)
    prompts, _ = label_shuffled_prompts(context, 2, 6)
    found, _ = attributed_effects(first_token_trunk(model, prompts), means.z)
    step, scale = 0.02, float(found.abs().max())
    assert scale > 1e-4
    for row, prompt in enumerate(prompts):
        for layer in range(model.n_layers):
            z = read_at_last(model, prompt, layer, "z").view(model.n_heads, -1)
            towards = step * (means.z[layer] - z)
            for head in range(model.n_heads):
                two = [
                    probability(
                        model,
                        prompt,
                        Edit(layer=layer, component="z", head=head, value=sign * towards[head]),
                    )
                    for sign in (1, -1)
                ]
                slope = (two[0] - two[1]) / (2 * step)
                assert float(found[row, layer, head]) == pytest.approx(slope, abs=0.02 * scale)


def test_effects_in_small_pieces_are_the_same(tiny_model: Any, bench_of: Any, mixed: Any) -> None:
    model = tiny_model("gemma2")
    context = bench_of(model, mixed, sizes=(6, 2, 2))
    means = head_means(context, 6)
    prompts, _ = label_shuffled_prompts(context, 5, 6)
    trunk = first_token_trunk(model, prompts)
    for work, shape in (
        (exact_effects, {"n_branches": 17}),
        (attributed_effects, {"n_branches": 1, "is_training": True}),
    ):
        one = shape_of(trunk.cut.prompts, (-1,), **shape)  # type: ignore[arg-type]
        budget = 2 * (trunk_bytes(model, one) + work_bytes(model, one))
        whole, _ = work(trunk, means.z)
        pieces, _ = work(trunk, means.z, memory=budget)
        torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-4)


def test_labels_are_shuffled_and_nothing_else(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), lambda i: f"{'small' if i % 2 else 'big'} {i}")
    prompts, _ = label_shuffled_prompts(context, 5, 12)
    true = {pair.input: pair.output for pair in context.task.train}
    plain = {prompt.query: prompt for prompt in context.prompts("train", context.shots)}
    shown = [pair for prompt in prompts for pair in prompt.demonstrations]
    assert sum(true[pair.input] == pair.output for pair in shown) < len(shown) / 2
    assert {pair.output for pair in shown} <= set(true.values())
    for prompt in prompts:
        same = plain[prompt.query]
        assert prompt.answer_ids == same.answer_ids
        assert [d.input for d in prompt.demonstrations] == [d.input for d in same.demonstrations]


def test_queries_that_the_model_knows_come_first_and_it_is_said_how_many(
    tiny_model: Any, bench_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("llama")
    context = bench_of(model)
    best = {}
    for prompt in context.prompts("train", context.shots):
        with torch.no_grad():
            best[prompt.query] = int(full_logits(model, prompt, ())[0].argmax())
    answer = context.prompts("train")[0].answer_ids[0]
    assert answer not in best.values()
    _, n_known = label_shuffled_prompts(context, 5, 12)
    assert n_known == 0
    assert "5 of the 5 prompts" in caplog.text
    # a context whose answers are what the model says anyway for two of the queries
    known = list(best)[7:9]
    context._memo.clear()
    key = ("train", context.shots, False)
    context._prompts[key] = tuple(
        _with_answer(p, best[p.query]) if p.query in known else p for p in context._prompts[key]
    )
    prompts, n_known = label_shuffled_prompts(context, 5, 12)
    assert n_known == 2
    assert [prompt.query for prompt in prompts[:2]] == known
    others = [query for query in best if query not in known]
    assert [prompt.query for prompt in prompts[2:]] == others[:3]


def _with_answer(prompt: Any, token: int) -> Any:
    from dataclasses import replace

    return replace(prompt, answer_ids=(token,))


def test_effects_are_worked_out_once(
    tiny_model: Any, bench_of: Any, body_calls: Callable[[Any], list[int]]
) -> None:
    context = bench_of(tiny_model("llama"))
    calls = body_calls(context.model)
    exact = indirect_effects(context, "exact", n_prompts=3, n_means=4)
    assert len(calls) == 4  # the few-shot prompts and the shuffled ones, each cut in two
    assert indirect_effects(context, "exact", n_prompts=3, n_means=4) is exact
    indirect_effects(context, "attributed", n_prompts=3, n_means=4)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 4000], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        ([1, 1, 2], [1, 2, 3], 0.8660254),
        ([5, 5, 5], [1, 2, 3], 0.0),
    ],
)
def test_rank_correlation_is_spearmans(one: Any, other: Any, expected: float) -> None:
    found = rank_correlation(torch.tensor(one).float(), torch.tensor(other).float())
    assert found == pytest.approx(expected)
