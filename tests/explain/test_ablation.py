"""Taking heads out: the planted one matters, random ones do not.

Run with `pytest tests/explain/test_ablation.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted

from taskvectors.evaluate import score
from taskvectors.explain.head_ablation import N_DRAWS, Ablated, Ablation, _Draws, ablate
from taskvectors.explain.key_heads import key_heads
from taskvectors.explain.shared.head_outputs import (
    MODES,
    Condition,
    outputs_at_last,
    outputs_over_tokens,
    taken_out,
)
from taskvectors.models import capture
from taskvectors.trunk import Edit
from taskvectors.vectors import Site, TaskVector, inject


def ablated(plant: planted.Planted, *, with_icl: bool = False) -> Ablation:
    heads = key_heads(plant.model, planted.prompts(8, 1), plant.vector)
    conditions = [
        Condition(
            name="vector",
            vector=plant.vector,
            training=planted.prompts(8, 1),
            test=planted.prompts(8, 2),
        )
    ]
    if with_icl:
        conditions.append(
            Condition(
                name="icl",
                vector=None,
                training=planted.prompts(8, 1, shots=2),
                test=planted.prompts(8, 2, shots=2),
            )
        )
    return ablate(plant.model, heads, conditions)


def row(found: Ablation, **wanted: Any) -> Ablated:
    (one,) = (
        r for r in found.rows if all(getattr(r, name) == value for name, value in wanted.items())
    )
    return one


def test_without_the_planted_head_the_vector_does_nothing() -> None:
    found = ablated(planted.by_head())
    at = {"condition": "vector", "positions": "last"}
    assert row(found, **at, mode="zero", heads="none").accuracy == 1
    assert row(found, **at, mode="zero", heads="key", n_heads=2).accuracy == 0
    by_chance = row(found, **at, mode="zero", heads="random", n_heads=2)
    assert by_chance.draws == N_DRAWS
    # a set of 2 of 16 heads has the planted one with probability 1/8
    assert 0.6 < by_chance.accuracy < 1
    assert by_chance.ci_low < by_chance.accuracy < by_chance.ci_high
    # and without the key heads it has never
    others = row(found, **at, mode="zero", heads="random-others")
    assert (others.accuracy, others.n_heads, others.draws) == (1, 2, N_DRAWS)
    for mode in ("zero", "mean"):
        wanted = {"condition": "vector", "positions": "all", "heads": "key"}
        # the head writes the same for every prompt, so its mean takes nothing away
        assert row(found, **wanted, mode=mode).accuracy <= 1
    assert row(found, condition="vector", positions="all", mode="zero").accuracy == 0
    assert row(found, **at, mode="resample", heads="key").accuracy == 1
    assert row(found, **at, mode="mean", heads="key").accuracy == 1
    assert row(found, **at, heads="key", n_heads=16).accuracy == 0
    assert found.plain_accuracy == 0


def test_where_no_head_carries_the_vector_none_is_missed() -> None:
    for plant in (planted.by_mlp(), planted.directly()):
        found = ablated(plant)
        assert all(one.accuracy == 1 for one in found.rows)


def test_the_same_heads_are_taken_out_where_the_vector_is_not() -> None:
    found = ablated(planted.by_head(), with_icl=True)
    assert {r.condition for r in found.rows} == {"vector", "icl"}
    labels = [series.label for series in found.figure().series]
    assert "key heads, in in-context learning" in labels
    key = found.figure().series[0]
    assert list(key.x) == sorted(key.x)
    assert key.x[0] == 0
    assert key.x[-1] == 100
    assert len(found.to_frame()) == len(found.rows)


def test_sets_matched_by_layer_have_as_many_heads_in_each_layer() -> None:
    import random

    plant = planted.by_head()
    heads = key_heads(plant.model, planted.prompts(8, 1), plant.vector, share=0.3)
    wanted = sorted(layer for layer, _ in heads.key)
    for drawn in _Draws(heads, random.Random(0)).by_layer(20):
        assert sorted(layer for layer, _ in drawn) == wanted
        assert len(set(drawn)) == len(drawn)


def vector_at(model: Any, position: Any) -> TaskVector:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, model.d_model, generator=generator)
    return TaskVector(values=values, sites=(Site(0, position),))


@pytest.mark.parametrize("position", [-1, "query_first"])
def test_outputs_are_those_of_whole_passes(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any, position: Any
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 4)
    vector = vector_at(model, position)
    condition = Condition(name="vector", vector=vector, training=prompts, test=prompts)
    last = outputs_at_last(model, condition, [1, 3])
    means = outputs_over_tokens(model, condition, [1, 3])
    for layer in (1, 3):
        whole = []
        for prompt in prompts:
            tokens = torch.tensor([prompt.token_ids])
            with (
                torch.no_grad(),
                inject(model, vector, prompts=[prompt]),
                capture(model, layer, "z", whole.append),
            ):
                model.hf(input_ids=tokens)
        heads = [z[0].view(-1, model.n_heads, model.d_head) for z in whole]
        wanted = torch.stack([z[-1] for z in heads])
        torch.testing.assert_close(last[layer], wanted, atol=1e-5, rtol=1e-4)
        mean = torch.cat(heads).mean(dim=0)
        torch.testing.assert_close(means[layer], mean, atol=1e-5, rtol=1e-4)


def test_each_mode_puts_in_what_it_says(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    outputs = {2: torch.randn(5, model.n_heads, model.d_head)}
    values = {mode: taken_out(outputs, mode, 3, 0, [(2, 1)])[0] for mode in MODES}
    assert not values["zero"].value.any()
    torch.testing.assert_close(values["mean"].value, outputs[2][:, 1].mean(dim=0))
    drawn = values["resample"].value
    assert drawn.shape == (3, 1, model.d_head)
    for one in drawn[:, 0]:
        assert any(torch.equal(one, other) for other in outputs[2][:, 1])
    assert {(e.layer, e.head, e.component, e.operation) for e in values.values()} == {
        (2, 1, "z", "replace")
    }


def test_all_heads_to_zero_is_attention_without_its_heads(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 3)
    outputs = {layer: torch.zeros(1, model.n_heads, model.d_head) for layer in (2, 3)}
    every = [(layer, head) for layer in (2, 3) for head in range(model.n_heads)]
    wanted = [
        Edit(
            layer=layer,
            component="z",
            operation="replace",
            value=torch.zeros(model.n_heads * model.d_head),
        )
        for layer in (2, 3)
    ]
    scores = score(model, prompts, [taken_out(outputs, "zero", 3, 0, every), wanted])
    torch.testing.assert_close(scores.log_probability[0], scores.log_probability[1])
