"""Every family's adapter reads and edits what transformers itself computes.

Run with `pytest tests/models/test_families.py`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models import (
    COMPONENTS,
    EMBED,
    Component,
    LanguageModel,
    capture,
    patch,
)

TOKENS = torch.tensor(
    [[1, 17, 40, 8, 99, 250, 31, 4, 5, 6, 77], [1, 3, 5, 396, 12, 70, 200, 9, 9, 9, 310]]
)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}

# the module that reads the residual stream between attention and MLP; in OLMo 2 the MLP itself
READS_RESID_MID = {
    "gemma2": "pre_feedforward_layernorm",
    "gemma3_text": "pre_feedforward_layernorm",
    "gpt2": "ln_2",
    "opt": "final_layer_norm",
    "opt-projected": "self_attn_layer_norm",
    "olmo2": "mlp",
}
# the module whose input attention reads
READS_FOR_ATTENTION = {
    "gpt2": "attn.c_attn",
    "gpt_neox": "attention.query_key_value",
    "phi3": "self_attn.qkv_proj",
}


def read(
    model: LanguageModel, *sites: tuple[int, Component]
) -> dict[tuple[int, Component], Tensor]:
    found: dict[tuple[int, Component], Tensor] = {}
    with torch.no_grad(), ExitStack() as stack:
        for layer, name in sites:
            keep = partial(found.__setitem__, (layer, name))
            stack.enter_context(capture(model, layer, name, keep))
        model.hf(input_ids=TOKENS)
    return found


def input_of(model: LanguageModel, module: nn.Module) -> Tensor:
    """What a module is called with in a plain run, with a batch axis."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model.hf(input_ids=TOKENS)
    handle.remove()
    return seen[0].view(*TOKENS.shape, -1)


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.hf(input_ids=TOKENS).logits
    return found


def n_hooks(model: LanguageModel) -> int:
    """Hooks on any module; `output_hidden_states` has left transformers' own on some."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


# --- what is read


def test_the_residual_stream_is_the_hidden_states_of_transformers(
    tiny_model: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    last = model.n_layers - 1
    with torch.no_grad():
        out = model.hf(input_ids=TOKENS, output_hidden_states=True)
    pre = read(model, *((layer, "resid_pre") for layer in range(model.n_layers)))
    post = read(model, *((layer, "resid_post") for layer in range(EMBED, model.n_layers)))
    for layer in range(model.n_layers):
        torch.testing.assert_close(pre[layer, "resid_pre"], out.hidden_states[layer], **CLOSE)
        below = post[layer - 1, "resid_post"]
        torch.testing.assert_close(below, out.hidden_states[layer], **CLOSE)
    final = post[last, "resid_post"]
    torch.testing.assert_close(model.logits(final), out.logits, **CLOSE)
    if tiny_name != "opt-projected":  # its hidden states end before the projection
        torch.testing.assert_close(model.final_state(final), out.hidden_states[-1], **CLOSE)


def test_the_parts_of_a_block_add_up(tiny_model: Any, tiny_name: str) -> None:
    model = tiny_model(tiny_name)
    for layer in range(model.n_layers):
        parts = read(
            model, *((layer, name) for name in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        )
        pre, attention, mlp, post = parts.values()
        adds_up = torch.allclose(pre + attention + mlp, post, **CLOSE)
        assert adds_up != model.is_post_norm
        if model.is_post_norm:
            norm = model.blocks[layer].self_attn_layer_norm
            last = model.blocks[layer].final_layer_norm
            torch.testing.assert_close(last(norm(pre + attention) + mlp), post, **CLOSE)


def test_resid_mid_is_what_the_second_half_of_a_block_reads(
    tiny_model: Any, tiny_name: str
) -> None:
    model, layer = tiny_model(tiny_name), 1
    if model.is_parallel:
        with pytest.raises(UnsupportedModelError, match="resid_mid does not exist"):
            read(model, (layer, "resid_mid"))
        return
    reader = model.module(layer, READS_RESID_MID.get(tiny_name, "post_attention_layernorm"))
    (middle,) = read(model, (layer, "resid_mid")).values()
    torch.testing.assert_close(middle, input_of(model, reader), **CLOSE)


def test_z_is_every_head_side_by_side_before_the_output_projection(
    tiny_model: Any, tiny_name: str
) -> None:
    model, layer = tiny_model(tiny_name), 2
    (z,) = read(model, (layer, "z")).values()
    assert z.shape == (*TOKENS.shape, model.n_heads * model.d_head)
    attention = model.part(layer, "attention")
    heads: list[Tensor] = []
    handle = attention.register_forward_hook(lambda _, __, out: heads.append(out[0]))
    projected = model.part(layer, "output_projection")(z)
    logits(model)
    handle.remove()
    torch.testing.assert_close(projected, heads[0], **CLOSE)


def test_attention_reads_the_residual_stream_through_the_named_norm(
    tiny_model: Any, tiny_name: str
) -> None:
    model, layer = tiny_model(tiny_name), 1
    reader = READS_FOR_ATTENTION.get(tiny_name.split("-", maxsplit=1)[0], "self_attn.v_proj")
    (state,) = read(model, (layer, "resid_pre")).values()
    norm = model.attention_norm(layer)
    expected = state if norm is None else norm(state)
    torch.testing.assert_close(expected, input_of(model, model.module(layer, reader)), **CLOSE)
    assert (norm is None) == (tiny_name in {"olmo2", "opt-projected"})


def test_sizes_are_those_of_the_modules(tiny_model: Any, tiny_name: str) -> None:
    model = tiny_model(tiny_name)
    assert model.n_layers == 4
    assert model.d_vocab == model.hf.get_output_embeddings().weight.shape[0]
    assert model.n_heads % model.n_key_value_heads == 0
    assert model.hf.get_input_embeddings().weight.device == model.device
    assert model.dtype == torch.float32
    assert model.context_length == 512
    assert len(model.parts(0).value_offsets) == model.n_key_value_heads


# --- what is edited


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_edit_that_changes_nothing_keeps_the_logits_and_another_changes_them(
    tiny_model: Any, tiny_name: str, component: Component
) -> None:
    model = tiny_model(tiny_name)
    if component == "resid_mid" and model.is_parallel:
        with pytest.raises(UnsupportedModelError), patch(model, 1, component, lambda s: s):
            pass
        return
    plain, before = logits(model), n_hooks(model)
    with patch(model, 1, component, lambda state: state):
        torch.testing.assert_close(logits(model), plain, **CLOSE)
    with patch(model, 1, component, torch.zeros_like):
        edited = logits(model)
    assert float((edited - plain).abs().max()) > 0.05
    assert n_hooks(model) == before
    torch.testing.assert_close(logits(model), plain, atol=0, rtol=0)


def test_what_is_added_at_a_site_arrives_where_the_site_leads(
    tiny_model: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    vector = torch.linspace(-1, 1, model.d_model)
    add: Callable[[Tensor], Tensor] = vector.add
    (plain,) = read(model, (1, "resid_post")).values()
    with patch(model, 1, "resid_post", add):
        torch.testing.assert_close(
            read(model, (2, "resid_pre"))[2, "resid_pre"], plain + vector, **CLOSE
        )
    if model.is_post_norm:
        return
    with patch(model, 1, "mlp_out", add):
        torch.testing.assert_close(
            read(model, (1, "resid_post"))[1, "resid_post"], plain + vector, **CLOSE
        )
    if not model.is_parallel:  # the MLP reads both alike
        with patch(model, 1, "attn_out", add):
            at_attention = logits(model)
        with patch(model, 1, "resid_mid", add):
            torch.testing.assert_close(logits(model), at_attention, **CLOSE)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_hook_is_left_after_an_exception(
    tiny_model: Any, tiny_kind: str, component: Component
) -> None:
    model = tiny_model(tiny_kind)
    if component == "resid_mid" and model.is_parallel:
        return
    plain, before = logits(model), n_hooks(model)

    def fail(_: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), patch(model, 1, component, fail):
        logits(model)
    with pytest.raises(ZeroDivisionError), capture(model, 1, component, lambda _: None):
        raise ZeroDivisionError
    assert n_hooks(model) == before
    torch.testing.assert_close(logits(model), plain, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("layer", "component"),
    [(4, "resid_post"), (-2, "resid_post"), (-1, "resid_pre"), (-1, "z"), (4, "mlp_out")],
)
def test_a_layer_that_does_not_exist_is_an_error(
    tiny_model: Any, layer: int, component: Component
) -> None:
    with (
        pytest.raises(UnsupportedModelError, match=f"{component} of layer {layer} does not exist"),
        patch(tiny_model("llama"), layer, component, lambda state: state),
    ):
        pass


def test_a_wrapped_model_is_frozen_and_in_evaluation_mode(fresh_model: Any) -> None:
    hf = fresh_model("llama").hf
    hf.requires_grad_(True).train()
    model = LanguageModel.wrap(hf)
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert not any(module.training for module in model.hf.modules())


def test_a_model_that_does_not_run_on_tokens_alone_is_refused_in_a_line(
    fresh_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = fresh_model("llama").hf

    def forward(*_: Any, **__: Any) -> None:
        raise ValueError("specify exactly one of input_features\nor encoder_inputs_embeds")

    monkeypatch.setattr(hf.model, "forward", forward)
    with pytest.raises(UnsupportedModelError, match=r"alone \(ValueError: specify") as caught:
        LanguageModel.wrap(hf)
    assert "\n" not in str(caught.value)


# --- telling weights apart


def test_a_fingerprint_survives_bfloat16_and_tells_seeds_apart(fresh_model: Any) -> None:
    model, other, rounded = (fresh_model("llama", seed=seed) for seed in (0, 1, 0))
    first = model.fingerprint
    rounded.hf.bfloat16()
    again = rounded.fingerprint
    assert first["shapes"] == again["shapes"] == other.fingerprint["shapes"]
    assert first["shapes"] != fresh_model("llama", num_hidden_layers=3).fingerprint["shapes"]
    for name, sample in first["samples"].items():
        assert again["samples"][name] == pytest.approx(sample, rel=1e-2)
        assert other.fingerprint["samples"][name] != pytest.approx(sample, rel=1e-2)
