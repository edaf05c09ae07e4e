"""Accuracy with a path frozen.

Run with `pytest tests/explain/test_frozen_paths.py`.
"""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from explain import planted
from torch import Tensor

from taskvectors.explain.frozen_paths import FROZEN, _held, frozen_paths
from taskvectors.models import capture, patch
from taskvectors.trunk import Edit, Trunk
from taskvectors.vectors import Site, TaskVector, inject


def accuracies(plant: planted.Planted) -> dict[str, float]:
    found = frozen_paths(plant.model, planted.prompts(), plant.vector)
    assert found.plain_accuracy == 0
    assert [row.frozen for row in found.rows] == list(FROZEN)
    assert len(found.to_frame()) == len(FROZEN)
    assert found.figure().references[0].y == 1
    return {row.frozen: row.accuracy for row in found.rows}


def test_a_head_that_carries_the_vector_must_not_be_frozen() -> None:
    found = accuracies(planted.by_head())
    assert found["attention"] == found["values"] == found["attention and mlps"] == 0
    assert found["mlps"] == found["patterns"] == found["direct path"] == 1


def test_an_mlp_that_carries_the_vector_must_not_be_frozen() -> None:
    found = accuracies(planted.by_mlp())
    assert found["mlps"] == found["attention and mlps"] == 0
    assert found["attention"] == found["values"] == found["direct path"] == 1


def test_a_vector_that_the_unembedding_reads_needs_the_direct_path_alone() -> None:
    found = accuracies(planted.directly())
    assert found["direct path"] == 0
    assert all(found[name] == 1 for name in FROZEN if name != "direct path")


def vector_of(model: Any) -> TaskVector:
    generator = torch.Generator().manual_seed(0)
    return TaskVector(
        values=torch.randn(1, model.d_model, generator=generator) * 2, sites=(Site(1, -1),)
    )


@pytest.mark.parametrize("frozen", ["attention", "mlps", "attention and mlps"])
def test_what_is_frozen_is_as_in_a_whole_plain_pass(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any, frozen: str
) -> None:
    model = tiny_model(tiny_kind)
    vector, layers = vector_of(model), range(2, 4)
    prompts = ragged_prompts(model, 3)
    trunk = Trunk.build(model, prompts)
    nothing = Edit(layer=1, value=torch.zeros(model.d_model))
    with torch.no_grad(), _held(model, layers):
        states = trunk.run([[nothing], *([*vector.edits()] for _ in FROZEN)])
        found = model.logits(trunk.answer_states(states, trunk.batch()))
    wanted = [_whole(model, vector, prompt, layers, frozen) for prompt in prompts]
    branch = FROZEN.index(frozen) + 1
    torch.testing.assert_close(found[:, branch], torch.cat(wanted), atol=1e-4, rtol=1e-4)
    plain = [_whole(model, vector * 0, prompt, layers, "none") for prompt in prompts]
    torch.testing.assert_close(found[:, 0], torch.cat(plain), atol=1e-4, rtol=1e-4)


def _whole(model: Any, vector: Any, prompt: Any, layers: range, frozen: str) -> Tensor:
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    last = len(prompt.token_ids) - 1
    components = [name for word, name in (("attention", "attn_out"), ("mlps", "mlp_out"))
                  if word in frozen]  # fmt: skip
    plain: dict[Any, Tensor] = {}
    with torch.no_grad(), ExitStack() as stack:
        for layer in layers:
            for component in components:
                key = (layer, component)
                stack.enter_context(
                    capture(model, *key, lambda s, key=key: plain.__setitem__(key, s.clone()))
                )
        model.hf(input_ids=tokens)
    with torch.no_grad(), ExitStack() as stack:
        for (layer, component), held in plain.items():

            def hold(state: Tensor, held: Tensor = held) -> Tensor:
                state = state.clone()
                state[:, last] = held[:, last]
                return state

            stack.enter_context(patch(model, layer, component, hold))
        stack.enter_context(inject(model, vector, prompts=[prompt]))
        return model.hf(input_ids=tokens).logits[0, last:]


def test_frozen_patterns_and_frozen_values_share_out_the_change_of_a_head(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    """With values frozen, what is left of a head's change is (c̃ - c) v; the rest is c̃ (ṽ - v).

    With patterns frozen it is c (ṽ - v): head by head in the direction of that rest.
    """
    model = tiny_model("llama")
    vector, layers = vector_of(model), range(2, 4)
    prompts = ragged_prompts(model, 3, answers=(1, 1))
    trunk = Trunk.build(model, prompts)
    nothing = Edit(layer=1, value=torch.zeros(model.d_model))
    kept: list[Tensor] = []
    with torch.no_grad(), _held(model, layers), capture(model, 2, "z", kept.append):
        trunk.run([[nothing], *([*vector.edits()] for _ in FROZEN)])
    z = kept[0].view(-1, len(prompts), model.n_heads, model.d_head).transpose(0, 1)
    patterns, values = FROZEN.index("patterns") + 1, FROZEN.index("values") + 1
    rest, with_patterns_held = z[:, 1] - z[:, values], z[:, patterns] - z[:, 0]
    cosine = torch.nn.functional.cosine_similarity(rest, with_patterns_held, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), atol=1e-4, rtol=0)
    assert (z[:, values] - z[:, 0]).norm() > 0
