"""What other libraries compute on the same small models is what ours does.

Run with `make interop`, which has an environment of its own; what is missing there is skipped.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from taskvectors.models import capture, load_model
from taskvectors.vectors import TaskVector, VectorOrigin, inject, sites_at, write_gguf

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are no concern of ours
TOKENS = torch.tensor([[1, 17, 40, 8, 99, 250, 31]])
LAYER = 2


def logits(hf: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = hf(input_ids=TOKENS).logits
    return found


def states(model: Any, layer: int, component: Any = "resid_post") -> Tensor:
    """What we read at a site."""
    found: list[Tensor] = []
    with capture(model, layer, component, found.append):
        logits(model.hf)
    return found[0]


def a_vector(model: Any, *positions: Any) -> TaskVector:
    """A vector that changes logits."""
    value = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(3)) * 2
    return TaskVector(
        values=value.expand(len(positions), -1).clone(),
        sites=sites_at([LAYER], positions),
        origin=VectorOrigin.of_model(model, method="random"),
    )


def injected(model: Any, vector: TaskVector) -> Tensor:
    """Our logits with a vector, which are others than without."""
    with inject(model, vector):
        found = logits(model.hf)
    assert not torch.allclose(found, logits(model.hf), atol=1e-2)
    return found


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_states_and_heads_are_those_of_transformer_lens(
    fresh_model: Callable[..., Any], tokenizer: Any, kind: str, tmp_path: Path
) -> None:
    bridge = pytest.importorskip("transformer_lens.model_bridge")
    model, theirs = fresh_model(kind), fresh_model(kind)
    tokenizer.save_pretrained(tmp_path)  # it wants one that knows where it is from
    known = AutoTokenizer.from_pretrained(tmp_path)
    lens = bridge.TransformerBridge.boot_transformers(
        f"tiny-{kind}", hf_model=theirs.hf, tokenizer=known, device="cpu"
    )
    with torch.no_grad():
        found, cache = lens.run_with_cache(TOKENS)
    close(found, logits(model.hf))
    for layer in range(model.n_layers):
        close(cache[f"blocks.{layer}.hook_resid_post"], states(model, layer))
        z = cache[f"blocks.{layer}.attn.hook_z"]
        close(z.reshape(*z.shape[:2], -1), states(model, layer, "z"))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_injected_vector_is_that_of_steering_vectors(
    fresh_model: Callable[..., Any], kind: str
) -> None:
    steering = pytest.importorskip("steering_vectors")
    model = fresh_model(kind)
    vector = a_vector(model, "all")
    theirs = steering.SteeringVector({LAYER: vector.values[0]})
    with theirs.apply(fresh_model(kind).hf):
        pass  # it leaves nothing behind
    with theirs.apply(model.hf):
        expected = logits(model.hf)
    close(injected(model, vector), expected)
    with theirs.apply(model.hf, min_token_index=None, token_indices=[-1]):
        expected = logits(model.hf)
    close(injected(model, a_vector(model, -1)), expected)


def test_a_control_vector_is_the_same_in_repeng(
    fresh_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # it was written before NumPy 2
    repeng = pytest.importorskip("repeng")
    model = fresh_model("llama")
    vector = a_vector(model, "all", "generated")
    write_gguf(vector, tmp_path / "ours.gguf")
    theirs = repeng.ControlVector.import_gguf(tmp_path / "ours.gguf")
    assert np.array_equal(theirs.directions[LAYER], vector.values[0].numpy())  # bit for bit
    control = repeng.ControlModel(fresh_model("llama").hf, [LAYER])
    control.set_control(theirs)
    close(injected(model, a_vector(model, "all")), logits(control))
    theirs.export_gguf(tmp_path / "theirs.gguf")
    assert torch.equal(TaskVector.load(tmp_path / "theirs.gguf").values[0], vector.values[0])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_states_and_edits_are_those_of_nnsight(fresh_model: Callable[..., Any], kind: str) -> None:
    nnsight = pytest.importorskip("nnsight")
    model = fresh_model(kind)
    traced = nnsight.NNsight(fresh_model(kind).hf)
    path = "model.layers" if kind == "llama" else "transformer.h"
    vector = a_vector(model, -1)
    with torch.no_grad(), traced.trace(input_ids=TOKENS):
        state = traced.get(f"{path}.{LAYER}").output.clone().save()
        traced.get(f"{path}.{LAYER}").output[:, -1] += vector.values[0]
        edited = traced.output.logits.save()
    close(state, states(model, LAYER))
    close(edited, injected(model, vector))


def test_a_model_with_an_adapter_is_that_of_peft(
    fresh_model: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    base = fresh_model("llama").hf
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "o_proj"])
    adapted = peft.get_peft_model(copy.deepcopy(base), config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    adapted.base_model.model.name_or_path = str(tmp_path / "base")
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    ours = load_model(str(tmp_path / "adapter"), dtype="float32")
    close(logits(ours.hf), logits(adapted))
    assert not torch.allclose(logits(ours.hf), logits(base), atol=1e-2)
