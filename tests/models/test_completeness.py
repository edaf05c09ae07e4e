"""What is not a whole model is refused before anything runs, with what is wrong and what to do.

Run with `pytest tests/models/test_completeness.py`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.models import load_model
from taskvectors.models.random_model import build_random

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 538090408\n"
)
Damage = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hf, tokenizer, _ = build_random("random")
    hf.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    weights = {name: value.clone() for name, value in held.items()}  # not in the file any more
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut(file: Path, share: float = 0.5) -> None:
    held = file.read_bytes()
    file.write_bytes(held[: int(len(held) * share)])


def without_head(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))


def in_shards(folder: Path) -> list[Path]:
    hf, _, _ = build_random("random")
    (folder / "model.safetensors").unlink()
    hf.save_pretrained(folder, max_shard_size="50KB")
    return sorted(folder.glob("model-*.safetensors"))


def as_bin(folder: Path) -> Path:
    hf, _, _ = build_random("random")
    (folder / "model.safetensors").unlink()
    torch.save(hf.state_dict(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def set_number(name: str, value: float) -> Damage:
    return lambda folder: change_weights(folder, lambda w: w[name].view(-1)[3:4].fill_(value))


DAMAGES: dict[str, tuple[Damage, str]] = {
    # a weight that no file has
    "no head": (without_head, r"no file has lm_head.weight.*without its head.*AutoModelForCausal"),
    "more layers in the config": (
        lambda f: change_config(f, num_hidden_layers=6),
        r"model.layers.\{4,5\}.*more layers than the weights",
    ),
    "a norm is missing": (
        lambda f: change_weights(f, lambda w: w.pop("model.norm.weight")),
        r"no file has model.norm.weight. If config.json has more",
    ),
    "no biases for a config with them": (
        lambda f: change_config(f, attention_bias=True),
        r"no file has model.layers.\{0,1,2,3\}.self_attn.k_proj.bias",
    ),
    # a weight that the model has no place for
    "fewer layers in the config": (
        lambda f: change_config(f, num_hidden_layers=2),
        r"no place for model.layers.\{2,3\}.input_layernorm.weight.*number of layers",
    ),
    "norms of another architecture": (
        lambda f: change_weights(
            f, lambda w: w.update({"model.layers.1.self_attn.q_norm.weight": torch.ones(8)})
        ),
        r"LlamaForCausalLM has no place for model.layers.1.self_attn.q_norm.weight",
    ),
    "a value head": (
        lambda f: change_weights(f, lambda w: w.update({"v_head.summary.bias": torch.ones(1)})),
        r"no place for v_head.summary.bias",
    ),
    # a shape that does not fit
    "another width": (
        lambda f: change_config(f, hidden_size=64),
        r"has the shape \(512, 32\) in the weights.*makes it \(512, 64\) \(\d+ weights in all\)",
    ),
    "another vocabulary": (
        lambda f: change_config(f, vocab_size=600),
        r"lm_head.weight has the shape \(512, 32\).*\(600, 32\)",
    ),
    "another number of key-value heads": (
        lambda f: change_config(f, num_key_value_heads=4),
        r"k_proj.weight has the shape \(16, 32\).*\(32, 32\)",
    ),
    "one matrix alone": (
        lambda f: change_weights(
            f, lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(32, 64)})
        ),
        r"layers.2.mlp.up_proj.weight has the shape \(32, 64\).*\(64, 32\)\.",
    ),
    # sizes that no model of such weights has; nothing of them is made
    "a thousand million layers": (
        lambda f: change_config(f, num_hidden_layers=10**9),
        r"num_hidden_layers is 1.*e\+9, and a model of more than 10000 layers is not made",
    ),
    "a thousand million layers of images": (
        lambda f: change_config(f, vision_config={"depth": 1e9}),
        r"depth is 1.*e\+9",
    ),
    "a width beyond the weights": (
        lambda f: change_config(f, hidden_size=10**9),
        r"hidden_size is 1.*e\+9, and its weights hold fewer numbers \(\d+ bytes\)",
    ),
    "words without end": (
        lambda f: change_config(f, vocab_size=10**400),
        r"vocab_size is 1.*e\+400, and its weights",
    ),
    "experts beyond the weights": (
        lambda f: change_config(f, num_local_experts=10**9),
        r"num_local_experts is 1.*e\+9",
    ),
    # a file that is not whole
    "cut in the middle": (lambda f: cut(f / "model.safetensors"), r"not a whole file.*again"),
    "cut in the header": (lambda f: cut(f / "model.safetensors", 0.001), r"not a whole file"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "it is empty"),
    "a shard is missing": (lambda f: in_shards(f)[1].unlink(), r"lacks 1 of its \d+ weight files"),
    "a shard is cut": (lambda f: cut(in_shards(f)[1]), r"model-00002.*not a whole file"),
    "a cut archive of torch": (lambda f: cut(as_bin(f)), r"pytorch_model.bin is not a whole"),
    "a page instead of weights": (
        lambda f: as_bin(f).write_text("<!doctype html>"),
        "holds no weights of torch",
    ),
    "a cut config": (lambda f: cut(f / "config.json"), r"config.json is not a whole file.*no JSON"),
    # a pointer of git-LFS
    "pointer for weights": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        r"model.safetensors is a git-LFS pointer of 13\d bytes.*git lfs pull",
    ),
    "pointer for the tokenizer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        r"tokenizer.json is a git-LFS pointer",
    ),
    "pointer for a shard": (
        lambda f: in_shards(f)[2].write_text(POINTER),
        r"model-00003-of-\d+.safetensors is a git-LFS pointer",
    ),
    # numbers that are none
    "NaN": (
        set_number("model.layers.1.mlp.up_proj.weight", float("nan")),
        r"1 of the 2048 numbers of model.layers.1.mlp.up_proj.weight are not finite",
    ),
    "infinite": (set_number("lm_head.weight", float("-inf")), r"numbers of lm_head.weight are not"),
    "a norm that is infinite": (
        set_number("model.norm.weight", float("inf")),
        r"1 of the 32 numbers of model.norm.weight",
    ),
    "all NaN": (
        lambda f: change_weights(
            f, lambda w: w["model.layers.0.self_attn.q_proj.weight"].fill_(float("nan"))
        ),
        r"1024 of the 1024 numbers of model.layers.0.self_attn.q_proj",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_model_that_is_not_whole_is_refused(folder: Path, kind: str) -> None:
    damage, message = DAMAGES[kind]
    load_model(str(folder), dtype="float32", device="cpu")  # what the damage makes wrong
    damage(folder)
    with pytest.raises(TaskVectorsError, match=message) as caught:
        load_model(str(folder), dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_whole_models_in_other_forms_are_not_refused(folder: Path) -> None:
    expected = load_model(str(folder), dtype="float32", device="cpu").fingerprint
    in_shards(folder)
    assert load_model(str(folder), dtype="float32", device="cpu").fingerprint == expected
    for file in folder.glob("model*"):
        file.unlink()
    hf, _, _ = build_random("random")
    for zipped in (True, False):  # the form of torch before 1.6 is that of many models of the hub
        torch.save(
            hf.state_dict(),
            folder / "pytorch_model.bin",
            _use_new_zipfile_serialization=zipped,
        )
        assert load_model(str(folder), dtype="float32", device="cpu").fingerprint == expected


def test_tied_weights_and_tables_are_not_missed(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("gemma3_text")  # its unembedding is the embedding, and is not saved
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    change_weights(tmp_path, lambda w: w.update({"model.rotary_emb.inv_freq": torch.ones(6)}))
    load_model(str(tmp_path), dtype="float32", device="cpu")


@pytest.mark.parametrize("words", [["<new>"], ["<a>", "<b>", "<c>"], [f"w{i}" for i in range(40)]])
def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(
    folder: Path, words: list[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"filler{i}" for i in range(512 - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    load_model(str(folder))  # as many tokens as rows
    tokenizer.add_tokens(words)
    tokenizer.save_pretrained(folder)
    needed = 512 + len(words)
    with pytest.raises(
        TaskVectorsError, match=rf"has 512 rows.*up to {needed - 1}.*token_embeddings\({needed}\)"
    ):
        load_model(str(folder))
    hf = AutoModelForCausalLM.from_pretrained(folder)
    hf.resize_token_embeddings(needed)
    hf.save_pretrained(folder)
    assert load_model(str(folder)).d_vocab == needed


def test_a_token_of_another_modality_needs_no_row(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"filler{i}" for i in range(512 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(folder)
    load_model(str(folder))


def test_a_head_that_is_missing_does_not_depend_on_chance(folder: Path) -> None:
    without_head(folder)
    for _ in range(2):
        with pytest.raises(TaskVectorsError, match=r"no file has lm_head"):
            load_model(str(folder))
