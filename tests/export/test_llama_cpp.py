"""llama.cpp itself, on the same weights: no vector, one at every token, one at the last token."""

import ctypes
import json
import platform
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from f32_gguf import dequantise, write_tiny
from torch import Tensor

from taskvectors.cli import main
from taskvectors.errors import PromptTooLongError, TaskVectorsError, VectorMismatchError
from taskvectors.models import load_model
from taskvectors.vectors import TaskVector, VectorOrigin, inject, sites_at, write_gguf

pytest.importorskip("xllamacpp", reason="the extra llama-cpp has no wheel here")

from taskvectors.api.generation import Writing
from taskvectors.api.llama_cpp import generate_in_llama_cpp, open_in_llama_cpp
from taskvectors.export import llama_cpp_library
from taskvectors.export.llama_cpp import LlamaCpp, runs_of

IDS = [1, 17, 40, 8, 99, 250, 31, 5, 311]
PLACES: list[tuple[Any, ...]] = [
    (), (-1,), ("last",), ("all",), ("all", "generated"), ("generated",), (0, 3, 4), (2, "all"),
]  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def pair(
    request: pytest.FixtureRequest,
    fresh_model: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, LlamaCpp]:
    """The same weights in transformers and in llama.cpp."""
    model = fresh_model(request.param)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny(model.hf, path)
    return model, LlamaCpp(path)


def a_vector(model: Any, positions: tuple[Any, ...], layers: tuple[int, ...] = (1, 2)) -> Any:
    if not positions:
        return None
    sites = sites_at(layers, positions)
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(len(sites), model.d_model, generator=generator) * 2
    origin = VectorOrigin.of_model(model, method="random")
    return TaskVector(values=values, sites=sites, origin=origin)


def ours(model: Any, ids: list[int], vector: Any, n_new: int) -> tuple[Tensor, list[int]]:
    """Log-probabilities of the next token and greedy tokens, by transformers and `inject`."""
    tokens = torch.tensor([ids])
    with nullcontext() if vector is None else inject(model, vector), torch.no_grad():
        out = model.hf.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=n_new,
            do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    return out.logits[0][0].float().log_softmax(dim=0), out.sequences[0, len(ids) :].tolist()


@pytest.mark.parametrize("positions", PLACES, ids=str)
def test_llama_cpp_computes_what_inject_does(
    pair: tuple[Any, LlamaCpp], positions: tuple[Any, ...]
) -> None:
    model, there = pair
    vector = a_vector(model, positions)
    log_p, written = ours(model, IDS, vector, 8)
    found = there.log_probabilities(IDS, vector)
    torch.testing.assert_close(found, log_p, atol=1e-2, rtol=0)
    assert there.write(IDS, vector, max_new_tokens=8) == written
    plain = there.log_probabilities(IDS)
    torch.testing.assert_close(plain, ours(model, IDS, None, 1)[0], atol=1e-2, rtol=0)
    assert positions in [(), ("generated",)] or not torch.allclose(plain, found, atol=0.1)


def test_strength_scales_and_long_prompts_are_read_in_pieces(pair: tuple[Any, LlamaCpp]) -> None:
    model, there = pair
    vector = a_vector(model, (-1,))
    doubled = there.log_probabilities(IDS, vector, 2.0)
    torch.testing.assert_close(doubled, there.log_probabilities(IDS, vector * 2))
    long = (IDS * 60)[:504]
    everywhere = a_vector(model, ("all", "generated"))
    expected, _ = ours(model, long, everywhere, 2)
    found = there.log_probabilities(long, everywhere)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)
    with pytest.raises(PromptTooLongError, match="512 fit"):
        there.write(long, max_new_tokens=9)


def test_what_is_drawn_follows_the_seed(pair: tuple[Any, LlamaCpp]) -> None:
    _, there = pair
    drawn = {tuple(there.write(IDS, temperature=2.0, seed=seed)) for seed in (1, 1, 2)}
    assert len(drawn) == 2


def test_runs_are_as_long_as_they_can_be() -> None:
    value = torch.ones(2, 4)
    vector = TaskVector(values=value, sites=sites_at([1], [0, "all"]))
    runs = runs_of(vector, 5)
    assert [(start, stop) for start, stop, _ in runs] == [(0, 1), (1, 5)]
    assert float(runs[0][2][1][0]) == 2.0
    assert float(runs[1][2][1][0]) == 1.0
    assert [run[:2] for run in runs_of(None, 5)] == [(0, 5)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sites": sites_at([0], [-1])}, "after blocks 1 and up"),
        ({"sites": sites_at([1], ["query_last"])}, "a place of a template"),
        ({"sites": sites_at([1], [-30])}, "has 9 tokens and no position -30"),
        ({"operation": "replace"}, "only adds"),
        ({"values": torch.ones(1, 9)}, "d_model 9"),
        ({"sites": sites_at([8], [-1])}, "is at layer 8"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_it_cannot_do_is_refused(
    pair: tuple[Any, LlamaCpp], change: dict[str, Any], said: str
) -> None:
    model, there = pair
    vector = replace(a_vector(model, (-1,), (1,)), **change)
    with pytest.raises((TaskVectorsError, VectorMismatchError), match=said):
        there.log_probabilities(IDS, vector)


def test_a_model_that_ignores_vectors_is_refused(
    pair: tuple[Any, LlamaCpp], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, there = pair
    monkeypatch.setattr(there, "_reads_vectors", None)
    monkeypatch.setattr(there, "_set", lambda directions: None)
    with pytest.raises(TaskVectorsError, match="ignores control vectors"):
        there.write(IDS, a_vector(model, (-1,)))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    for text in (b"", b"GGUF", b"nothing" * 40):
        (tmp_path / "no.gguf").write_bytes(text)
        with pytest.raises(TaskVectorsError, match=r"does not load no\.gguf \(.*[a-z]"):
            LlamaCpp(tmp_path / "no.gguf")
    with pytest.raises(TaskVectorsError, match="there is no GGUF file"):
        LlamaCpp(tmp_path / "absent.gguf")
    with pytest.raises(TaskVectorsError, match="is no GGUF file"):
        open_in_llama_cpp(tmp_path)


def test_options_of_transformers_are_refused(
    pair: tuple[Any, LlamaCpp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, there = pair
    a_vector(model, (-1,)).save(tmp_path / "v")
    words = ["generate", "--vector", str(tmp_path / "v"), "--prompt", "x", "--backend", "llama.cpp"]
    file = ["--model", str(there.path)]
    for more, said in (
        ([*file, "--dtype", "float32"], "--dtype says nothing to llama.cpp"),
        ([*file, "--chat"], "--chat would change nothing"),
        (["--model", "random"], "'random' is no GGUF file"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err


def test_another_interface_is_refused_before_it_is_used() -> None:
    functions = llama_cpp_library.library().functions

    def other() -> Any:
        found = functions.llama_context_default_params()
        found.numbers[1] = 7
        return found

    fakes = {name: SimpleNamespace() for name in llama_cpp_library._FUNCTIONS}
    with pytest.raises(TaskVectorsError, match=r"begin with \(512, 7, 512\), not"):
        llama_cpp_library._declare(
            SimpleNamespace(**fakes | {"llama_context_default_params": other}), "xllamacpp 9"
        )
    del fakes["llama_decode"]
    with pytest.raises(TaskVectorsError, match=r"xllamacpp 9 .* it has no llama_decode"):
        llama_cpp_library._declare(SimpleNamespace(**fakes), "xllamacpp 9")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="a C++ function, by its ABI"
)
def test_its_own_loader_reads_what_is_exported(pair: tuple[Any, LlamaCpp], tmp_path: Path) -> None:
    """`common_control_vector_load`, which its programs call for --control-vector-scaled."""
    model, there = pair
    vector = a_vector(model, ("all", "generated"), (1, 3))
    values = vector.values.view(2, 2, -1)[:, :1].repeat(1, 2, 1).flatten(0, 1)  # one per layer
    vector = replace(vector, values=values)
    write_gguf(vector, tmp_path / "v.gguf")
    n_embd, data = _loaded(there.library.functions, tmp_path / "v.gguf", strength=0.5)
    expected = torch.zeros(3, model.d_model)  # blocks 1, 2 and 3
    expected[0], expected[2] = vector.values[0] / 2, vector.values[2] / 2
    assert n_embd == model.d_model
    assert torch.equal(data, expected)


def _loaded(functions: Any, path: Path, strength: float) -> tuple[int, Tensor]:
    class Text(ctypes.Structure):  # what std::string points into, in the ABI of the wheel
        _fields_ = (
            ("length", ctypes.c_size_t),
            ("capacity", ctypes.c_size_t),
            ("references", ctypes.c_long),
            ("text", ctypes.c_char * 1024),
        )

    class Info(ctypes.Structure):
        _fields_ = (("strength", ctypes.c_float), ("path", ctypes.c_void_p))

    class Vector(ctypes.Structure):
        _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("cap", ctypes.c_void_p))

    class Data(ctypes.Structure):
        _fields_ = (("n_embd", ctypes.c_int), ("data", Vector))

    raw = str(path).encode()
    text, found = Text(len(raw), len(raw), 0, raw), Data()
    info = Info(strength, ctypes.addressof(text) + Text.text.offset)
    begin = ctypes.addressof(info)
    given = Vector(begin, begin + ctypes.sizeof(info), begin + ctypes.sizeof(info))
    load = functions._Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE  # noqa: E501
    load.restype, load.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p)
    load(ctypes.byref(found), ctypes.byref(given))
    n = (found.data.end - found.data.begin) // 4
    values = torch.frombuffer(
        (ctypes.c_float * n).from_address(found.data.begin), dtype=torch.float32
    )
    return found.n_embd, values.clone().view(-1, found.n_embd)


@pytest.mark.slow
def test_the_embedded_model_in_float32_and_in_four_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("embedded", dtype="float32")
    quantised = open_in_llama_cpp("embedded")
    dequantise(quantised.path, tmp_path / "f32.gguf")
    there = LlamaCpp(tmp_path / "f32.gguf")
    state = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(0))
    vector = TaskVector(
        values=state / state.norm() * 400,
        sites=sites_at([9], [-1]),
        origin=VectorOrigin.of_model(model, method="random", template="qa"),
    )
    everywhere = replace(vector, values=vector.values.repeat(2, 1) / 8,
                         sites=sites_at([9], ["all", "generated"]))  # fmt: skip
    for text in ("Q: France\nA:", "hot -> cold\nbig ->"):
        ids = there.encode(text)
        assert ids == model.tokenizer(text)["input_ids"]
        for one in (None, vector, everywhere):
            log_p, written = ours(model, ids, one, 10)
            found = there.log_probabilities(ids, one)
            likely = log_p > -9  # its cache is in float16, and so are its tables of GELU
            torch.testing.assert_close(found[likely], log_p[likely], atol=3e-2, rtol=0)
            assert float((log_p.exp() * (log_p - found)).sum()) < 1e-4
            assert there.write(ids, one, max_new_tokens=10) == written
            small = quantised.log_probabilities(ids, one)
            assert float((log_p.exp() * (log_p - small)).sum()) < 0.1
    said = generate_in_llama_cpp(there, vector, Writing(input="France", max_new_tokens=3))
    vector.save(tmp_path / "vector")
    words = ["generate", "--vector", tmp_path / "vector", "--input", "France", "--backend"]
    main([*map(str, words), "llama.cpp", "--max-new-tokens", "3", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["backend"], shown["model"]) == ("llama.cpp", quantised.path.name)
    assert [row["method"] for row in shown["rows"]] == ["zero-shot", "random"]
    assert said.prompt == "Q: France\nA:"
    assert len(said.next_tokens) >= 10
