"""`adaptive`: its edits against the formula, one training step against a loop, planted truth.

Run with `pytest tests/methods/test_adaptive.py`.
"""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import full_logits

from taskvectors.methods.adaptive import Adaptive, adaptive, layer_edits
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.trunk import Edit


def embedded(states_of: Any, model: Any, prompt: Any) -> torch.Tensor:
    """The embedding of a query by the model itself."""
    state = states_of(model, prompt)[-1, -1]
    found: torch.Tensor = state / state.square().mean().sqrt()
    return found


def test_the_edits_are_the_map_of_each_query_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 3, 5, generator=generator)
    queries = torch.randn(4, 3, generator=generator)
    edits = layer_edits((0, 7), weights, queries)
    assert [(edit.layer, edit.positions, edit.operation) for edit in edits] == [
        (0, (-1,), "add"),
        (7, (-1,), "add"),
    ]
    for row, edit in enumerate(edits):
        for prompt in range(4):
            wanted = sum(float(queries[prompt, i]) * weights[row, i] for i in range(3))
            torch.testing.assert_close(edit.value[prompt, 0], wanted, atol=1e-5, rtol=1e-5)


def test_one_step_is_adamws_on_the_gradient_of_whole_passes(
    tiny_model: Any, bench_of: Any, states_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(4, 3, 2))
    model, layers = context.model, (0, 2)
    config = Adaptive(layers=layers, steps=1, batch_size=4, learning_rate=0.01, check_every=1)
    (one,) = adaptive(context, config)
    prompts = context.prompts("train")
    states = torch.stack([states_of(model, prompt)[:, -1] for prompt in prompts])
    scale = [states[:, layer + 1].norm(dim=1).median() / model.d_model**0.5 for layer in layers]
    weights = torch.zeros(2, model.d_model, model.d_model, requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=0.01, weight_decay=0.01)
    losses = []
    for prompt in prompts:
        e = embedded(states_of, model, prompt)
        branch = [
            Edit(layer=layer, value=s * (e @ w))
            for layer, s, w in zip(layers, scale, weights, strict=True)
        ]
        logits = full_logits(model, prompt, branch)
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(prompt.answer_ids)))
    torch.stack(losses).mean().backward()
    optimizer.step()
    held_out = context.prompts("validation")
    for row, edit in enumerate(one.branch(held_out)):
        for index, prompt in enumerate(held_out):
            wanted = scale[row] * (embedded(states_of, model, prompt) @ weights[row].detach())
            # a step is lr times the gradient's sign where that is not near zero
            close = torch.isclose(edit.value[index, 0], wanted, atol=1e-3, rtol=1e-2)
            assert float(close.float().mean()) > 0.9
    assert one.cost.parameters == 2 * model.d_model**2
    assert one.cost.steps == 1


def test_queries_with_different_answers_are_told_apart_where_one_vector_could_not(
    tiny_model: Any, bench_of: Any
) -> None:
    # two answers, by a letter of the input: a vector of its own for each query can give both
    context = bench_of(tiny_model("llama"), lambda i: ("cold", "small")[i % 2], sizes=(24, 12, 8))
    config = Adaptive(steps=60, learning_rate=0.003, batch_size=12, patience=None)
    (one,) = adaptive(context, config)
    # the control: the mean of the vectors of all queries, for each of them

    def averaged(prompts: Any) -> Any:
        return [replace(edit, value=edit.value.mean(dim=0)) for edit in one.branch(prompts)]

    scores = score_candidates(context, "test", [one, replace(one, edits=averaged)])
    own, shared = (float(found.is_correct.float().mean()) for found in scores)
    assert own > 0.9
    assert shared <= 0.75
    assert one.curve[-1]["loss"] < one.curve[0]["loss"]


def test_the_map_of_the_best_check_is_kept_and_training_stops_without_improvement(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    context = bench_of(tiny_model("llama"), mixed)
    config = Adaptive(steps=50, check_every=1, patience=3, learning_rate=0.5, batch_size=4)
    (one,) = adaptive(context, config)
    best = max(
        one.curve, key=lambda point: (point["validation_accuracy"], point["validation_logprob"])
    )
    assert one.converged
    assert one.cost.steps == best["step"] + 3
    (scores,) = score_candidates(context, "validation", [one])
    reached = float(scores.log_probability.mean())
    assert reached == pytest.approx(best["validation_logprob"], abs=1e-4)


def test_another_model_can_embed_the_queries(
    tiny_model: Any, bench_of: Any, states_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_model("gpt2", 5)
    named = []
    home = sys.modules["taskvectors.methods.adaptive"]  # not the function of that name
    monkeypatch.setattr(home, "load_model", lambda name: named.append(name) or other)
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    (own,) = adaptive(context, Adaptive(steps=2, check_every=1))
    (one,) = adaptive(context, Adaptive(steps=2, check_every=1, embedder="small"))
    assert named == ["small"]
    assert "small" in one.configuration
    prompts = context.prompts("test")
    values = [candidate.branch(prompts)[0].value for candidate in (own, one)]
    assert not torch.allclose(*values)
    # which depend on what the other model makes of the queries, and on nothing else
    e = torch.stack([embedded(states_of, other, prompt) for prompt in prompts])
    solved = torch.linalg.lstsq(e, values[1][:, 0]).solution
    torch.testing.assert_close(e @ solved, values[1][:, 0], atol=1e-4, rtol=1e-3)
