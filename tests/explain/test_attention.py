"""Where key heads look.

Run with `pytest tests/explain/test_attention.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.attention import CLASSES, Attention, attention_of_heads, class_of_keys
from taskvectors.explain.key_heads import key_heads
from taskvectors.vectors import Site, TaskVector


def masses(found: Attention) -> dict[tuple[str, str, str], float]:
    return {(row.condition, row.heads, row.falls_on): row.mass for row in found.rows}


def looked(plant: planted.Planted, share: float = 0.07) -> Attention:
    heads = key_heads(plant.model, planted.prompts(), plant.vector, share=share)
    return attention_of_heads(
        plant.model,
        plant.vector,
        heads,
        prompts=planted.prompts(),
        few_shot=planted.prompts(shots=2),
    )


def test_the_planted_head_looks_at_the_last_token_and_others_do_not() -> None:
    mass = masses(looked(planted.by_head()))
    assert mass["injected", "key", "last"] > 0.9
    assert mass["injected", "random", "last"] < 0.4
    assert mass["injected", "key", "sink"] < 0.05 < mass["injected", "random", "sink"]


def test_a_head_that_looks_at_the_sink_is_seen_there() -> None:
    plant = planted.by_head()
    attention = plant.model.blocks[planted.CARRIER_LAYER].self_attn
    with torch.no_grad():  # the carrier now reads keys that the first token alone has
        attention.k_proj.weight[1, planted.CUE] = 0
        attention.k_proj.weight[1, planted.SINK] = 3.0
    mass = masses(looked(plant))
    assert mass["plain", "key", "sink"] > 0.9
    assert mass["plain", "key", "last"] < 0.1


def test_masses_add_up_to_one_in_every_condition(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 5)
    vector = TaskVector(values=torch.ones(1, model.d_model), sites=(Site(1, -1),))
    heads = key_heads(model, prompts, vector)
    found = attention_of_heads(model, vector, heads, prompts=prompts)
    for condition in ("injected", "plain"):
        for who in ("key", "random", "all"):
            rows = [r for r in found.rows if (r.condition, r.heads) == (condition, who)]
            assert [r.falls_on for r in rows] == list(CLASSES)
            assert sum(r.mass for r in rows) == pytest.approx(1, abs=1e-4)
    assert len(found.to_frame()) == len(found.rows) == 2 * 3 * 5


def test_demonstrations_are_looked_at_where_there_are_some() -> None:
    found = looked(planted.by_head())
    mass = masses(found)
    assert mass["injected", "all", "demonstrations"] == 0
    assert mass["icl", "all", "demonstrations"] > 0.1
    assert [len(series.x) for series in found.figure().series] == [5, 5, 5]


def test_classes_are_disjoint_and_padding_is_in_front() -> None:
    (prompt,) = planted.prompts(1, shots=1)
    n = len(prompt.token_ids)
    begin, stop = prompt.spans["query"]
    found = [CLASSES[i] for i in class_of_keys(prompt, n + 2)[2:].tolist()]
    assert found[0] == "sink"
    assert found[1:begin] == ["demonstrations"] * 3
    assert found[begin:stop] == ["query"] * (stop - begin)
    assert found[-1] == "last"


def test_a_vector_at_another_token_is_refused() -> None:
    plant = planted.by_head()
    heads = key_heads(plant.model, planted.prompts(), plant.vector)
    vector = TaskVector(values=plant.vector.values, sites=(Site(0, -2),))
    with pytest.raises(TaskVectorsError, match="position -2"):
        attention_of_heads(plant.model, vector, heads, prompts=planted.prompts())
