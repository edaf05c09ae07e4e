"""Adapters on and off: peft's own logits while on, the model to the bit after.

Run with `pytest tests/models/test_adapters.py`.
"""

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from taskvectors.methods.bitfit import BitFit
from taskvectors.methods.ia3 import IA3
from taskvectors.methods.lora import Lora
from taskvectors.methods.prefix_tuning import PrefixTuning
from taskvectors.methods.prompt_tuning import PromptTuning
from taskvectors.models.adapters import Adapter, BiasAdapter

KINDS = {
    "prompt-tuning": PromptTuning(),
    "prefix-tuning": PrefixTuning(),
    "lora": Lora(),
    "ia3": IA3(),
    "bitfit": BitFit(),
}


def moved(adapter: Adapter, model: Any, seed: int = 0) -> Adapter:
    """The adapter with all of its numbers moved at random, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with adapter.on(model) as adapted:
        weights = {
            name: value + 0.3 * torch.randn(value.shape, generator=generator)
            for name, value in adapted.weights().items()
        }
    return adapter.with_weights(weights)


def ours(model: Any, adapter: Adapter, tokens: Tensor) -> Tensor:
    with torch.no_grad(), adapter.on(model) as adapted:
        states = adapted.forward(tokens, torch.ones_like(tokens))
        logits: Tensor = model.logits(states)
    return logits


def tokens_of(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, model.d_vocab, (3, 9), generator=generator)


def built(model: Any, kind: str, size: Any) -> Adapter:
    if kind == "bitfit" and not has_biases(model):
        pytest.skip("no biases")
    return KINDS[kind].build(model, size, 0)


def has_biases(model: Any) -> bool:
    return any(name.endswith("bias") for name, _ in model.blocks[0].named_parameters())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bitfit"])
def test_an_adapted_models_logits_are_those_of_pefts_own_forward_pass(
    fresh_model: Any, tiny_name: str, kind: str
) -> None:
    model = fresh_model(tiny_name)
    adapter = moved(built(model, kind, "matched" if kind == "lora" else "default"), model)
    tokens = tokens_of(model)
    found = ours(model, adapter, tokens)
    with adapter.on(model) as adapted, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # peft's name for the cache
        theirs = adapted.hf(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        plain = model.hf(input_ids=tokens).logits if kind.startswith("pr") else None
    torch.testing.assert_close(found, theirs[:, -tokens.shape[1] :], atol=1e-4, rtol=1e-4)
    if plain is not None:
        assert not torch.allclose(found, plain, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_the_same_to_the_bit_after_an_adapter(
    fresh_model: Any, tiny_kind: str, kind: str
) -> None:
    model = fresh_model(tiny_kind)
    tokens = tokens_of(model)
    weights = copy.deepcopy(model.hf.state_dict())
    attributes, modules = set(vars(model.hf)), [type(m) for m in model.hf.modules()]
    state = torch.get_rng_state()
    with torch.no_grad():
        before = model.hf(input_ids=tokens).logits
    adapter = moved(built(model, kind, "default"), model)
    adapted = ours(model, adapter, tokens)
    with pytest.raises(RuntimeError, match="from inside"), adapter.on(model):
        raise RuntimeError("from inside")
    with torch.no_grad():
        after = model.hf(input_ids=tokens).logits
    assert not torch.allclose(adapted, before, atol=1e-3)
    assert torch.equal(before, after)
    assert weights.keys() == model.hf.state_dict().keys()
    for name, value in model.hf.state_dict().items():
        assert torch.equal(value, weights[name])
    assert set(vars(model.hf)) == attributes
    assert [type(m) for m in model.hf.modules()] == modules
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_changed_bias_is_that_bias_in_the_model(fresh_model: Any) -> None:
    for name in ("gpt2", "gpt_neox", "opt", "llama-biased"):
        model = fresh_model(name)
        adapter = moved(built(model, "bitfit", "default"), model)
        assert isinstance(adapter, BiasAdapter)
        tokens = tokens_of(model)
        found = ours(model, adapter, tokens)
        with torch.no_grad():
            for bias, change in adapter.weights.items():
                model.hf.get_parameter(bias).add_(change)
            expected = model.hf(input_ids=tokens).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bitfit"])
def test_peft_reads_what_is_saved(fresh_model: Any, tmp_path: Path, kind: str) -> None:
    model = fresh_model("qwen3")
    adapter = moved(built(model, kind, "matched"), model)
    tokens = tokens_of(model)
    found = ours(model, adapter, tokens)
    adapter.save(model, tmp_path)
    assert (tmp_path / "adapter_config.json").exists()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)
        loaded = peft.PeftModel.from_pretrained(model.hf, str(tmp_path))
        theirs = loaded(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    torch.testing.assert_close(found, theirs[:, -tokens.shape[1] :], atol=1e-4, rtol=1e-4)


def test_saved_biases_are_the_models_own_with_the_change(fresh_model: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = fresh_model("gpt2")
    adapter = moved(built(model, "bitfit", "matched"), model)
    adapter.save(model, tmp_path)
    held = load_file(tmp_path / "biases.safetensors")
    assert isinstance(adapter, BiasAdapter)
    assert held.keys() == adapter.weights.keys()
    for name, value in held.items():
        torch.testing.assert_close(value, model.hf.get_parameter(name) + adapter.weights[name])


def test_a_matched_adapter_has_about_the_numbers_of_a_vector(tiny_model: Any) -> None:
    """d for a soft prompt, width of z plus d for rank 1 on W_O, a key and a value in each block."""
    model = tiny_model("llama")  # d 32, 4 heads of 12, 2 of them for keys and values, 4 blocks
    expected = {"prompt-tuning": 32, "prefix-tuning": 4 * 2 * 2 * 12, "lora": 4 * 12 + 32}
    expected["ia3"] = 2 * 2 * 12 + 48
    for kind, count in expected.items():
        with built(model, kind, "matched").on(model) as adapted:
            assert adapted.n_parameters == count
    square = tiny_model("gpt_neox")
    with built(square, "lora", "matched").on(square) as adapted:
        assert adapted.n_parameters == 2 * square.d_model


def test_padding_on_the_right_changes_nothing(tiny_model: Any, tiny_kind: str) -> None:
    model = tiny_model(tiny_kind)
    for kind in ("prompt-tuning", "prefix-tuning", "lora"):
        adapter = moved(built(model, kind, "matched"), model)
        tokens = tokens_of(model)
        mask = torch.ones_like(tokens)
        mask[1, 5:] = 0
        with torch.no_grad(), adapter.on(model) as adapted:
            padded = adapted.forward(tokens, mask)[1, :5]
            alone = adapted.forward(tokens[1:2, :5], mask[1:2, :5])[0]
        torch.testing.assert_close(padded, alone, atol=1e-4, rtol=1e-4)


def test_the_start_is_drawn_from_the_seed_alone(tiny_model: Any) -> None:
    model = tiny_model("llama")

    def start(seed: int) -> Tensor:
        with PromptTuning().build(model, "matched", seed).on(model) as adapted:
            (value,) = adapted.weights().values()
        return value

    assert torch.equal(start(3), start(3))
    assert not torch.equal(start(3), start(4))
