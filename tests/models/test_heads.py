"""Each head's share of attention: weights, layouts, and results that add up.

Run with `pytest tests/models/test_heads.py`.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from taskvectors.models import Component, LanguageModel, capture
from taskvectors.models.heads import (
    attention_scale,
    head_results,
    output_bias,
    output_weights,
    value_weights,
)

TOKENS = torch.tensor([[1, 17, 40, 8, 99, 250, 31], [1, 3, 5, 396, 12, 70, 200]])


def read(
    model: LanguageModel, layer: int, *components: Component, tokens: Tensor = TOKENS
) -> list[Tensor]:
    """What a plain run holds at some sites of a block."""
    found: dict[Component, Tensor] = {}
    with torch.no_grad(), ExitStack() as stack:
        for name in components:
            stack.enter_context(capture(model, layer, name, partial(found.__setitem__, name)))
        model.hf(input_ids=tokens)
    return [found[name] for name in components]


def before_norm(model: LanguageModel, layer: int, z: Tensor) -> Tensor:
    output: Tensor = model.part(layer, "output_projection")(z)
    return output


def test_results_of_all_heads_and_the_bias_are_the_attention_increment(
    tiny_model: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    for layer in range(model.n_layers):
        z, increment = read(model, layer, "z", "attn_out")
        results = head_results(model, layer, z)
        assert results.shape == (*TOKENS.shape, model.n_heads, model.d_model)
        scale = attention_scale(model, layer, before_norm(model, layer, z))
        total = results.sum(dim=-2) + output_bias(model, layer) * scale
        torch.testing.assert_close(total, increment, atol=1e-5, rtol=1e-5)


def test_a_head_that_runs_alone_gives_its_own_result(tiny_model: Any, tiny_name: str) -> None:
    model, layer = tiny_model(tiny_name), 2
    (z,) = read(model, layer, "z")
    results = head_results(model, layer, z)
    scale = attention_scale(model, layer, before_norm(model, layer, z))
    for head in range(model.n_heads):
        alone = torch.zeros_like(z)
        own = slice(head * model.d_head, (head + 1) * model.d_head)
        alone[..., own] = z[..., own]
        given = (before_norm(model, layer, alone) - output_bias(model, layer)) * scale
        torch.testing.assert_close(given, results[..., head, :], atol=1e-5, rtol=1e-5)


def test_with_a_given_norm_scale_results_are_linear_in_z(tiny_model: Any, tiny_name: str) -> None:
    model = tiny_model(tiny_name)
    (z,) = read(model, 1, "z")
    held = before_norm(model, 1, z)
    half = z * (torch.arange(z.shape[-1]) % 2)
    parts = head_results(model, 1, half, held) + head_results(model, 1, z - half, held)
    torch.testing.assert_close(parts, head_results(model, 1, z), atol=1e-5, rtol=1e-5)
    if model.post_attention_norm(1) is not None:
        assert not torch.allclose(
            head_results(model, 1, half), head_results(model, 1, half, held), atol=1e-2
        )


def test_only_families_with_a_norm_after_attention_scale_its_output(
    tiny_model: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    scale = attention_scale(model, 0, torch.randn(3, model.d_model))
    is_plain = bool((scale == 1).all())
    assert is_plain == (model.model_type not in {"gemma2", "gemma3_text", "olmo2"})


def test_a_token_that_sees_itself_only_has_the_value_of_its_own_state(
    tiny_model: Any, tiny_name: str
) -> None:
    # differences between two one-token prompts are free of the value bias
    model, layer = tiny_model(tiny_name), 1
    seen: list[Tensor] = []
    handle = model.part(layer, "value_projection").register_forward_pre_hook(
        lambda _, args: seen.append(args[0][0, 0])
    )
    z = [read(model, layer, "z", tokens=torch.tensor([[token]]))[0][0, 0] for token in (7, 300)]
    handle.remove()
    weights = value_weights(model, layer)
    assert weights.shape == (model.n_key_value_heads, model.d_model, model.d_head)
    group = model.n_heads // model.n_key_value_heads
    for head in range(model.n_heads):
        own = slice(head * model.d_head, (head + 1) * model.d_head)
        expected = (seen[1] - seen[0]) @ weights[head // group]
        torch.testing.assert_close((z[1] - z[0])[own], expected, atol=1e-5, rtol=1e-5)


class Packed(nn.Module):
    """A linear map that keeps no matrix to read, as quantised ones do."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.step = linear.weight.abs().max() / 127
        self.packed = nn.Parameter((linear.weight / self.step).round().to(torch.int8), False)
        self.bias = linear.bias

    def forward(self, state: Tensor) -> Tensor:
        return nn.functional.linear(state, self.packed * self.step, self.bias)


def test_weights_of_a_module_without_a_matrix_are_read_by_what_it_does(fresh_model: Any) -> None:
    model = fresh_model("llama-biased")
    attention = model.blocks[1].self_attn
    packed_o, packed_v = Packed(attention.o_proj), Packed(attention.v_proj)
    plain = [output_weights(model, 1), value_weights(model, 1), output_bias(model, 1)]
    attention.o_proj, attention.v_proj = packed_o, packed_v
    read_back = [output_weights(model, 1), value_weights(model, 1), output_bias(model, 1)]
    assert float(plain[2].abs().max()) > 0.1
    for before, after, step in zip(
        plain, read_back, (packed_o.step, packed_v.step, 0), strict=True
    ):
        assert float((before - after).abs().max()) <= step * 0.5 + 1e-6
    whole = output_weights(model, 1).flatten(0, 1)
    torch.testing.assert_close(whole, (packed_o.packed * packed_o.step).T, atol=1e-6, rtol=1e-5)


def test_weights_and_results_are_float32_in_a_bfloat16_model(
    fresh_model: Any, tiny_kind: str
) -> None:
    model = fresh_model(tiny_kind)
    model.hf.bfloat16()
    z, increment = read(model, 1, "z", "attn_out")
    results = head_results(model, 1, z)
    assert output_weights(model, 1).dtype == results.dtype == torch.float32
    scale = attention_scale(model, 1, before_norm(model, 1, z))
    total = results.sum(dim=-2) + output_bias(model, 1) * scale
    torch.testing.assert_close(total, increment.float(), atol=0.05, rtol=0.05)
