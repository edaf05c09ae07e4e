"""What is exported computes what `inject` does, read back by the reader that it is for.

Run with `pytest tests/export/test_formats.py`.
"""

import base64
import json
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taskvectors.errors import DataError, TaskVectorsError, UnsupportedModelError
from taskvectors.export import write_checkpoint, write_lm_eval, write_peft, write_vllm_lens
from taskvectors.export.vllm_lens import steering_vectors
from taskvectors.vectors import TaskVector, VectorOrigin, inject, on_the_prompt, sites_at

EVERYWHERE = ("all", "generated")
WITH_A_BIAS = ("llama", "llama-biased", "gpt2", "gpt_neox", "gpt_neox-sequential", "opt")
LINEAR = ("llama", "llama-biased", "mistral", "qwen2", "qwen3", "phi3", "gpt_neox", "opt")
NORMED = ("gemma2", "gemma3_text", "olmo2")
EXPERTS = ("mixtral", "qwen3_moe")


def vector_for(model: Any, layers: Any = (1, 2), positions: Any = EVERYWHERE) -> TaskVector:
    """A vector with one value a layer."""
    sites = sites_at(layers, positions)
    generator = torch.Generator().manual_seed(1)
    values = {layer: torch.randn(model.d_model, generator=generator) for layer in layers}
    return TaskVector(
        values=torch.stack([values[site.layer] for site in sites]),
        sites=sites,
        origin=VectorOrigin.of_model(model, method="learned", task="capital"),
    )


def prompt_of(model: Any) -> Any:
    return model.tokenizer("Q: hot is", return_tensors="pt")


def written_by(hf: Any, ids: Any) -> list[int]:
    with torch.inference_mode():
        out = hf.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    return out[0].tolist()


def injected(model: Any, vector: TaskVector) -> tuple[Any, list[int]]:
    """Logits of a prompt, and what is written after it, with the vector."""
    ids = prompt_of(model)
    with inject(model, on_the_prompt(vector)):
        logits = model.hf(**ids).logits
    with inject(model, vector):
        return logits, written_by(model.hf, ids)


@pytest.mark.parametrize("name", WITH_A_BIAS)
def test_a_checkpoint_is_read_by_transformers_and_is_the_vector(
    name: str, tiny_model: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny_model(name)
    vector = vector_for(model)
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    told = write_checkpoint(vector, model, tmp_path / "baked")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "baked", dtype=torch.float32).eval()
    logits, text = injected(model, vector)
    torch.testing.assert_close(again(**prompt_of(model)).logits, logits, atol=2e-4, rtol=1e-4)
    assert written_by(again, prompt_of(model)) == text
    assert written_by(model.hf, prompt_of(model)) != text  # the control: without, another text
    assert AutoTokenizer.from_pretrained(tmp_path / "baked")("hot").input_ids
    assert "cannot be switched off" in told[0]
    assert all(torch.equal(value, before[key]) for key, value in model.hf.state_dict().items())


@pytest.mark.parametrize("name", LINEAR)
def test_an_adapter_is_read_by_peft_and_is_the_vector(
    name: str, tiny_model: Any, tmp_path: Path
) -> None:
    import peft
    from conftest import build_model

    model = replace(tiny_model(name), location=f"tiny-{name}")
    vector = vector_for(model)
    write_peft(vector, model, tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(build_model(name).eval(), tmp_path / "adapter")
    logits, text = injected(model, vector)
    with torch.inference_mode():
        found = again(**prompt_of(model)).logits
    torch.testing.assert_close(found, logits, atol=2e-4, rtol=1e-4)
    assert written_by(again, prompt_of(model)) == text
    held = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert held["base_model_name_or_path"] == f"tiny-{name}"
    with pytest.raises(DataError, match="not empty"):
        write_peft(vector, model, tmp_path / "adapter")


@pytest.mark.parametrize("write", [write_checkpoint, write_peft])
@pytest.mark.parametrize(
    ("names", "said"),
    [(NORMED, "follows the MLP before the sum"), (EXPERTS, "mixture of experts")],
)
def test_a_family_where_a_bias_is_another_thing_is_refused_with_the_reason(
    write: Any, names: tuple[str, ...], said: str, tiny_model: Any, tmp_path: Path
) -> None:
    for name in names:
        with pytest.raises(UnsupportedModelError, match=said):
            write(vector_for(tiny_model(name)), tiny_model(name), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_needs_a_place_for_a_bias_and_an_adapter_a_linear(
    tiny_model: Any, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError, match="no mlp_bias in its config"):
        write_checkpoint(vector_for(tiny_model("mistral")), tiny_model("mistral"), tmp_path / "a")
    with pytest.raises(UnsupportedModelError, match="takes torch's Linear only"):
        write_peft(vector_for(tiny_model("gpt2")), tiny_model("gpt2"), tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_bias_that_is_not_the_vector_is_seen_by_the_models_own_passes(
    fresh_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskvectors.export import bias

    model = fresh_model("llama")
    monkeypatch.setattr(bias, "_plus", lambda value, state: state + 1.5 * value)
    with pytest.raises(UnsupportedModelError, match="does not compute what the vector does"):
        write_checkpoint(vector_for(model), model, tmp_path / "baked")
    assert not list(tmp_path.iterdir())


def test_a_file_of_lm_eval_names_modules_that_add_the_vector(
    tiny_model: Any, tiny_kind: str, tmp_path: Path
) -> None:
    """With the steps of lm-eval's own reader, which `make interop` runs itself."""
    model = tiny_model(tiny_kind)
    vector = vector_for(model)
    write_lm_eval(vector, model, tmp_path / "steer.pt")
    steering = torch.load(tmp_path / "steer.pt", weights_only=True)
    modules = dict(model.hf.base_model.named_modules())

    def adding(value: Any) -> Any:
        def hook(_: Any, __: Any, out: Any) -> Any:
            return (out[0] + value, *out[1:]) if isinstance(out, tuple) else out + value

        return hook

    with ExitStack() as stack:
        for name, one in steering.items():
            assert (one["action"], one["steering_coefficient"]) == ("add", 1.0)
            handle = modules[name].register_forward_hook(adding(one["steering_vector"]))
            stack.callback(handle.remove)
        logits = model.hf(**prompt_of(model)).logits
    torch.testing.assert_close(logits, injected(model, vector)[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(TaskVectorsError, match=r"ends in \.pt"):
        write_lm_eval(vector, model, tmp_path / "steer.json")


def decoded(one: dict[str, Any]) -> Any:
    """Values as vllm-lens reads its uncompressed form."""
    held = one["activations"]
    raw = np.frombuffer(base64.b64decode(held["data"]), dtype=held["dtype"])
    return torch.from_numpy(raw.reshape(held["shape"]).copy())


def test_a_request_of_vllm_lens_has_layers_positions_and_values(
    tiny_model: Any, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    vector = vector_for(model)
    write_vllm_lens(vector, tmp_path / "all.json")
    (everywhere,) = json.loads((tmp_path / "all.json").read_text())
    assert everywhere["layer_indices"] == [1, 2]
    assert everywhere["position_indices"] is None
    assert torch.equal(decoded(everywhere), vector.values[::2])
    last = vector_for(model, positions=("last", 0))
    told = write_vllm_lens(last, tmp_path / "last.json")
    assert "refuses the file as it is" in told[1]
    held = json.loads((tmp_path / "last.json").read_text())
    assert [one["position_indices"] for one in held] == [{"from_end": [-1, 0]}] * 2
    for number, one in enumerate(steering_vectors(last, 7)):
        assert one["position_indices"] == [6, 0]
        assert torch.equal(decoded(one)[0], last.values[2 * number : 2 * number + 2])


def test_a_request_adds_in_a_model_what_inject_adds(tiny_model: Any) -> None:
    """With the steps of the plugin's worker on one prompt, which is a row of its own."""
    from taskvectors.models import patch

    model = tiny_model("llama")
    last = vector_for(model, positions=(-1,))
    ids = prompt_of(model)

    def adding(one: dict[str, Any]) -> Any:
        def rewrite(state: Any) -> Any:
            changed = state.clone()
            for place, value in zip(one["position_indices"], decoded(one)[0], strict=True):
                changed[0, place] += value * one["scale"]
            return changed

        return rewrite

    with ExitStack() as stack:
        for one in steering_vectors(last, ids["input_ids"].shape[1]):
            (layer,) = one["layer_indices"]
            stack.enter_context(patch(model, layer, "resid_post", adding(one)))
        logits = model.hf(**ids).logits
    torch.testing.assert_close(logits, injected(model, last)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "positions", "said"),
    [((1,), ("query_last",), "takes numbers of"), ((-1,), (-1,), "after blocks")],
)
def test_a_request_that_the_plugin_cannot_add_is_refused(
    layers: Any, positions: Any, said: str, tiny_model: Any
) -> None:
    with pytest.raises(TaskVectorsError, match=said):
        steering_vectors(vector_for(tiny_model("llama"), layers, positions))
    with pytest.raises(TaskVectorsError, match="no position -3"):
        steering_vectors(vector_for(tiny_model("llama"), (1,), (-3,)), 2)


@pytest.mark.parametrize("write", [write_checkpoint, write_peft, write_lm_eval])
def test_a_vector_at_some_tokens_is_refused_where_all_are_changed(
    write: Any, tiny_model: Any, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    with pytest.raises(TaskVectorsError, match="acts at -1 only"):
        write(vector_for(model, positions=(-1,)), model, tmp_path / "v.pt")
    # at every token, but not at every layer
    mixed = sites_at([1], EVERYWHERE) + sites_at([2], ["all"])
    vector = replace(vector_for(model), values=torch.ones(3, model.d_model), sites=mixed)
    with pytest.raises(TaskVectorsError, match="only"):
        write(vector, model, tmp_path / "v.pt")
    rotates = replace(vector_for(model), operation="rotate")
    with pytest.raises(TaskVectorsError, match="only adds"):
        write(rotates, model, tmp_path / "v.pt")
    assert not list(tmp_path.iterdir())
