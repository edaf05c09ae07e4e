"""Loading: folders, GGUF files, types, and errors that say what to do.

Run with `pytest tests/models/test_loading.py`; `-m slow` adds the embedded model.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models import checks, conversion, load_model, options, sources

TOKENS = torch.tensor([[1, 17, 40, 8, 99, 250, 31]])


def saved(model: Any, folder: Path) -> Path:
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_model("llama"), tmp_path_factory.mktemp("models") / "a-llama")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.hf(input_ids=TOKENS.to(model.device)).logits.float().cpu()
    return found


# --- folders


def test_a_saved_model_comes_back_with_its_tokenizer(tiny_model: Any, folder: Path) -> None:
    model = load_model(str(folder), dtype="float32", device="cpu")
    assert model.source == "a-llama"
    assert model.model_type == "llama"
    assert torch.equal(logits(model), logits(tiny_model("llama")))
    text = "Q: France\nA: Paris"
    assert model.tokenizer(text)["input_ids"] == tiny_model("llama").tokenizer(text)["input_ids"]
    assert model.fingerprint == tiny_model("llama").fingerprint
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert not model.hf.training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_type_asked_for_is_the_type_loaded(folder: Path, dtype: Any) -> None:
    model = load_model(str(folder), dtype=dtype, device="cpu")
    assert model.dtype == getattr(torch, dtype)
    assert {p.dtype for p in model.hf.parameters()} == {model.dtype}


@pytest.mark.parametrize("is_native", [True, False])
def test_the_automatic_type_is_bfloat16_only_where_the_processor_computes_in_it(
    folder: Path, is_native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_computes_in_bfloat16", lambda _: is_native)
    model = load_model(str(folder), device="cpu")
    assert model.dtype == (torch.bfloat16 if is_native else torch.float32)


def test_attention_is_what_was_asked_for(folder: Path) -> None:
    assert load_model(str(folder), device="cpu").config._attn_implementation == "sdpa"
    eager = load_model(str(folder), device="cpu", attention="eager")
    assert eager.config._attn_implementation == "eager"


def test_a_soft_capped_family_runs_eager_and_refuses_anything_else(
    tiny_model: Any, tmp_path: Path
) -> None:
    source = str(saved(tiny_model("gemma2"), tmp_path))
    model = load_model(source, dtype="float32", device="cpu")
    assert model.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(model), logits(tiny_model("gemma2")))
    with pytest.raises(UnsupportedModelError, match=r"soft-capped.*Use 'eager'"):
        load_model(source, attention="sdpa")


def test_every_family_survives_saving_and_loading(
    tiny_model: Any, tiny_name: str, tmp_path: Path
) -> None:
    model = load_model(str(saved(tiny_model(tiny_name), tmp_path)), dtype="float32", device="cpu")
    assert model.structure.blocks == tiny_model(tiny_name).structure.blocks
    torch.testing.assert_close(logits(model), logits(tiny_model(tiny_name)), atol=1e-5, rtol=1e-5)


# --- what cannot be loaded


def test_a_model_that_is_nowhere_is_an_error_that_says_what_was_expected() -> None:
    for source in ("no-such/model-here", "./no/such/folder", "no such model"):
        with pytest.raises(TaskVectorsError) as caught:
            load_model(source)
        message = str(caught.value)
        assert repr(source) in message
        assert "folder written by save_pretrained" in message
        assert "\n" not in message


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskVectorsError, match="cannot load the model"):
        load_model(str(tmp_path))


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"no model")
    with pytest.raises(TaskVectorsError, match=r"model.bin' is a file that is not .gguf"):
        load_model(str(file))
    with pytest.raises(TaskVectorsError, match=r"no GGUF file .*absent.gguf"):
        load_model(str(tmp_path / "absent.gguf"))


def test_quantized_loading_names_the_package_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = options.importlib.util.find_spec
    monkeypatch.setattr(
        options.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else present(name, *rest),
    )
    with pytest.raises(TaskVectorsError, match="needs the package bitsandbytes"):
        load_model(str(folder), quantization="4bit")


def test_a_missing_embedded_model_names_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "_EMBEDDED_PACKAGE", "no_such_package_here")
    with pytest.raises(TaskVectorsError, match=r"Install taskvectors\[demo\]"):
        load_model("embedded")


# --- GGUF


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "taskvectors" / "converted"


def write_gguf(model: Any, path: Path, *, adds_bos: bool = True) -> Path:
    """A Llama and its byte-level tokenizer as llama.cpp stores them, in float32."""
    import gguf

    config, tokenizer = model.config, model.tokenizer
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(model.d_model)
    writer.add_block_count(model.n_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(model.n_heads)
    writer.add_head_count_kv(model.n_key_value_heads)
    writer.add_key_length(model.d_head)
    writer.add_value_length(model.d_head)
    writer.add_rope_dimension_count(model.d_head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(model.d_vocab)
    words = {number: word for word, number in tokenizer.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([words.get(i, f"<unused{i}>") for i in range(model.d_vocab)])
    writer.add_token_types([3 if i < 3 else 1 for i in range(model.d_vocab)])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(adds_bos)

    def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
        # llama.cpp's rotary embedding pairs neighbours, transformers' the two halves of a head
        return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    plain = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    tensors = {
        "token_embd": model.hf.model.embed_tokens.weight,
        "output_norm": model.hf.model.norm.weight,
        "output": model.hf.lm_head.weight,
    }
    for i, block in enumerate(model.blocks):
        for ours, theirs in plain.items():
            tensors[f"blk.{i}.{theirs}"] = block.get_submodule(ours).weight
        queries, keys = block.self_attn.q_proj.weight, block.self_attn.k_proj.weight
        tensors[f"blk.{i}.attn_q"] = interleaved(queries, model.n_heads)
        tensors[f"blk.{i}.attn_k"] = interleaved(keys, model.n_key_value_heads)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_converted_once_and_then_read_from_the_cache(
    tiny_model: Any, user_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = tiny_model("llama")
    file = write_gguf(original, tmp_path / "small.gguf")
    with caplog.at_level(logging.WARNING):
        model = load_model(str(file), dtype="float32", device="cpu")
    torch.testing.assert_close(logits(model), logits(original), atol=1e-5, rtol=1e-5)
    text = "Q: France\nA: Paris Zz"
    assert model.tokenizer(text)["input_ids"] == original.tokenizer(text)["input_ids"]
    assert model.source == "small.gguf"
    assert model.revision.startswith("sha256:")
    assert "GGUF" in model.weights_note
    assert [record.message for record in caplog.records if "Converting" in record.message]
    (copy,) = user_cache.iterdir()
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    caplog.clear()
    again = load_model(str(file), dtype="float32", device="cpu")
    assert torch.equal(logits(again), logits(model))
    assert not caplog.records
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_a_conversion_that_was_cut_off_leaves_nothing_and_is_made_again(
    tiny_model: Any, user_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(tiny_model("llama"), tmp_path / "small.gguf")
    with monkeypatch.context() as broken:
        broken.setattr(conversion, "_plain", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_model(str(file))
    assert list(user_cache.iterdir()) == []
    # a folder under the final name without the file that is written last does not count either
    half = conversion.folder_of(hashlib.sha256(file.read_bytes()).hexdigest())
    half.mkdir()
    (half / "config.json").write_text("{}")
    load_model(str(file))
    assert (half / "conversion.json").is_file()


def test_a_copy_that_an_earlier_version_made_is_made_again(
    tiny_model: Any, user_cache: Path, tmp_path: Path
) -> None:
    file = write_gguf(tiny_model("llama"), tmp_path / "small.gguf")
    folder, _ = conversion.converted(file)
    last = folder / "conversion.json"
    last.write_text(json.dumps({"file": file.name, "transformers": "5.17.0"}))
    (folder / "tokenizer.json").write_text("a wrong one")
    model = load_model(str(file), dtype="float32", device="cpu")
    assert json.loads(last.read_text())["format"] == conversion.FORMAT
    torch.testing.assert_close(logits(model), logits(tiny_model("llama")), atol=1e-5, rtol=1e-5)
    before = last.stat().st_mtime_ns
    assert conversion.converted(file)[0] == folder
    assert last.stat().st_mtime_ns == before


DAMAGED_COPIES = {
    "empty mark": ("conversion.json", b""),
    "mark cut off": ("conversion.json", b'{"file": "small.gg'),
    "mark of another kind": ("conversion.json", b"[]"),
    "no weights": ("model.safetensors", b""),
    "config cut off": ("config.json", b'{"model_type":'),
    "no tokenizer": ("tokenizer.json", None),
}


@pytest.mark.parametrize("kind", DAMAGED_COPIES)
def test_a_copy_that_is_damaged_is_made_again(
    tiny_model: Any, user_cache: Path, tmp_path: Path, kind: str
) -> None:
    name, content = DAMAGED_COPIES[kind]
    file = write_gguf(tiny_model("llama"), tmp_path / "small.gguf")
    folder, _ = conversion.converted(file)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    model = load_model(str(file), dtype="float32", device="cpu")
    torch.testing.assert_close(logits(model), logits(tiny_model("llama")), atol=1e-5, rtol=1e-5)


def test_a_file_that_only_calls_itself_gguf_is_an_error(user_cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF but not really")
    with pytest.raises(TaskVectorsError, match=r"broken.gguf"):
        load_model(str(file))
    assert not user_cache.exists() or list(user_cache.iterdir()) == []


def test_a_tokenizer_that_is_not_the_one_of_the_file_is_refused_and_nothing_is_kept(
    tiny_model: Any, user_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    model = tiny_model("llama")
    file = write_gguf(model, tmp_path / "small.gguf", adds_bos=False)
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: model.tokenizer
    )
    with pytest.raises(UnsupportedModelError, match=r"small.gguf.*a text begins with BOS"):
        load_model(str(file))
    assert list(user_cache.iterdir()) == []


# --- the embedded model


def test_a_wrong_copy_of_the_embedded_model_is_noticed(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    tokens = model.tokenizer(checks._SENTENCE, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = float(model.hf(input_ids=tokens, labels=tokens).loss)
    monkeypatch.setattr(checks, "_SENTENCE_IDS", tuple(tokens[0].tolist()))
    monkeypatch.setattr(checks, "_SENTENCE_LOGPROB", -loss)
    monkeypatch.setattr(checks, "_LOGPROB_TOLERANCE", 1e-4)
    checks.check_embedded(model, "/a/copy")
    for wrong in (-loss + 1e-3, -loss - 1e-3, float("nan")):
        monkeypatch.setattr(checks, "_SENTENCE_LOGPROB", wrong)
        with pytest.raises(UnsupportedModelError, match=r"/a/copy.*log-probability .*Delete"):
            checks.check_embedded(model, "/a/copy")
    monkeypatch.setattr(checks, "_SENTENCE_IDS", (1, 2, 3))
    with pytest.raises(UnsupportedModelError, match=r"/a/copy.*becomes the tokens .*Delete"):
        checks.check_embedded(model, "/a/copy")


@pytest.mark.slow
def test_the_embedded_model_loads_and_knows_a_capital(capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model("embedded")
    assert (model.model_type, model.n_layers, model.d_model) == ("gemma3_text", 18, 640)
    assert (model.n_heads, model.n_key_value_heads, model.d_head) == (4, 1, 256)
    assert model.d_vocab == 262_144
    assert "4 bits" in model.weights_note
    shown = "Q: Spain\nA: Madrid\n\nQ: Japan\nA: Tokyo\n\nQ: Italy\nA: Rome\n\nQ: France\nA:"
    tokens = model.tokenizer(shown, return_tensors="pt")["input_ids"]
    assert int(tokens[0, 0]) == model.tokenizer.bos_token_id
    with torch.no_grad():
        best = int(model.hf(input_ids=tokens.to(model.device)).logits[0, -1].argmax())
    assert model.tokenizer.decode([best]).strip() == "Paris"
    assert capsys.readouterr().out == ""
