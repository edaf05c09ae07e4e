"""Models that peft has changed: a folder with an adapter loads merged, a `PeftModel` is wrapped.

Run with `pytest tests/models/test_peft_models.py`.
"""

import copy
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models import capture, load_model
from taskvectors.models.random_model import build_random

TOKENS = torch.tensor([[1, 17, 40, 8, 99, 250, 31]])
CONFIGS = {
    "lora": peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"]),
    "ia3": peft.IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    ),
    "dora": peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["up_proj"], use_dora=True),
}


def adapted(hf: Any, kind: str) -> Any:
    """A `PeftModel` whose adapter acts."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.get_peft_model(hf, copy.deepcopy(CONFIGS[kind]))
    for parameter in model.parameters():
        if parameter.requires_grad:
            change = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(0.3 * change)
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=TOKENS).logits
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    hf, tokenizer, _ = build_random("random")
    hf.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def saved(base: Path, kind: str) -> tuple[Path, Tensor]:
    """A folder with an adapter for the base model, and the logits of the two."""
    import transformers

    model = adapted(transformers.AutoModelForCausalLM.from_pretrained(base), kind)
    folder = base.parent / kind
    model.save_pretrained(str(folder))
    return folder, logits(model)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_with_an_adapter_is_its_base_model_with_the_change(base: Path, kind: str) -> None:
    folder, expected = saved(base, kind)
    model = load_model(folder, dtype="float32", device="cpu")
    torch.testing.assert_close(logits(model.hf), expected, atol=1e-4, rtol=1e-4)
    plain = load_model(base, dtype="float32", device="cpu")
    assert not torch.allclose(expected, logits(plain.hf), atol=1e-2)
    assert {name for name, _ in model.hf.named_parameters()} == {
        name for name, _ in plain.hf.named_parameters()
    }
    assert model.source == kind
    assert f"base with the adapter {kind}" in model.weights_note
    assert model.fingerprint != plain.fingerprint
    assert model.tokenizer("hot")["input_ids"] == plain.tokenizer("hot")["input_ids"]


def test_an_adapter_whose_base_model_is_not_there_names_it(base: Path) -> None:
    folder, _ = saved(base, "lora")
    shutil.rmtree(base)
    with pytest.raises(TaskVectorsError, match=r"adapter for the model '.*base', which cannot be"):
        load_model(folder)
    for name in (None, ""):
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = name
        (folder / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(TaskVectorsError, match=r"names no base model. Write"):
            load_model(folder)


def test_an_adapter_that_is_damaged_or_of_another_model_is_refused(base: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, _ = saved(base, "lora")
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    weights = {name: value.clone() for name, value in load_file(file).items()}  # not of the file
    some = dict(list(weights.items())[2:])
    for change, message in (
        (lambda: file.write_bytes(whole[: len(whole) // 2]), "not a whole file"),
        (lambda: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "LFS pointer"),
        (lambda: save_file(some, file), "does not fit LlamaForCausalLM.*missing adapter keys"),
        (
            lambda: save_file({k: torch.ones(3, 5) for k in weights}, file),
            "does not fit LlamaForCausalLM.*size mismatch",
        ),
        (
            lambda: save_file({k: v * float("nan") for k, v in weights.items()}, file),
            "does not fit|not finite",
        ),
    ):
        change()
        with pytest.raises(TaskVectorsError, match=f"(?s){message}"):
            load_model(folder)


def test_an_adapter_before_the_prompt_cannot_be_merged(base: Path) -> None:
    hf, _, _ = build_random("random")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.get_peft_model(hf, config)
    config.base_model_name_or_path = str(base)
    model.save_pretrained(str(base.parent / "prompt"))
    for source in (model, base.parent / "prompt"):
        with pytest.raises(UnsupportedModelError, match=r"before the prompt.*Load its base"):
            load_model(source, build_random("random")[1])


def test_a_peft_model_is_wrapped_with_its_change(base: Path) -> None:
    hf, tokenizer, _ = build_random("random")
    theirs = adapted(hf, "lora")
    expected = logits(theirs)
    model = load_model(theirs, tokenizer)
    torch.testing.assert_close(logits(model.hf), expected, atol=1e-4, rtol=1e-4)
    seen: list[Tensor] = []
    with capture(model, 1, "resid_post", seen.append):
        logits(theirs)  # the user's object is the model: hooks act in its calls as well
    assert len(seen) == 1
    # what is undone is the change, and nothing else
    theirs.unmerge_adapter()
    torch.testing.assert_close(logits(theirs), expected, atol=1e-4, rtol=1e-4)


# --- a model that is loaded already


def test_a_plain_transformers_model_is_a_model() -> None:
    hf, tokenizer, _ = build_random("random")
    model = load_model(hf, tokenizer)
    assert model.hf is hf
    assert model.tokenizer is tokenizer
    assert not any(parameter.requires_grad for parameter in hf.parameters())


def test_what_is_wrong_with_a_loaded_model_is_said() -> None:
    hf, tokenizer, _ = build_random("random")
    with pytest.raises(TaskVectorsError, match=r"does not have its tokenizer with it"):
        load_model(hf)
    with pytest.raises(TaskVectorsError, match="loaded already"):
        load_model(hf, tokenizer, dtype="float32")
    with pytest.raises(TaskVectorsError, match="type dict is none of transformers"):
        load_model({}, tokenizer)
    with pytest.raises(TaskVectorsError, match="type Linear is none of transformers"):
        load_model(torch.nn.Linear(2, 2), tokenizer)
    hf.resize_token_embeddings(100)
    with pytest.raises(TaskVectorsError, match="has 100 rows"):
        load_model(hf, tokenizer)
    hf, tokenizer, _ = build_random("random")
    hf.lm_head.weight.data[5, 5] = float("nan")
    with pytest.raises(TaskVectorsError, match="not finite"):
        load_model(hf, tokenizer)
