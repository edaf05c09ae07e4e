"""The C of the documentation, compiled without a warning and run inside llama.cpp."""

import ctypes
import importlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from f32_gguf import write_tiny

from taskvectors.export.llama_cpp import LlamaCpp
from taskvectors.vectors import TaskVector, sites_at

pytest.importorskip("xllamacpp", reason="the extra llama-cpp has no wheel here")
COMPILER = shutil.which("cc")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"
DECLARED = """
#include <stddef.h>
#include <stdint.h>
typedef int32_t llama_token;
struct llama_model;
struct llama_context;
struct llama_batch {
    int32_t n_tokens; llama_token *token; float *embd; int32_t *pos; int32_t *n_seq_id;
    int32_t **seq_id; int8_t *logits;
};
int32_t llama_model_n_embd(const struct llama_model *);
int32_t llama_model_n_layer(const struct llama_model *);
int32_t llama_set_adapter_cvec(
    struct llama_context *, const float *, size_t, int32_t, int32_t, int32_t);
struct llama_batch llama_batch_get_one(llama_token *, int32_t);
int32_t llama_decode(struct llama_context *, struct llama_batch);
float *llama_get_logits_ith(struct llama_context *, int32_t);
"""
"""What `llama.h` of llama.cpp b11549 says of what is called."""


@pytest.mark.skipif(not COMPILER, reason="no C compiler here")
@pytest.mark.parametrize("ids", [[1, 17, 40, 8, 99, 250, 31], [17]], ids=["several", "one token"])
def test_the_c_of_the_page_serves_a_vector_at_the_last_token(
    fresh_model: Callable[..., Any], tmp_path: Path, ids: list[int]
) -> None:
    (code,) = re.findall(r"```c\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    source, binary = tmp_path / "served.c", tmp_path / "served.so"
    source.write_text(
        f"{DECLARED}float *served(struct llama_model *model, struct llama_context *ctx,"
        " float *data, float *zeros, llama_token *tokens, int32_t n_tokens) {\n"
        f"{code}return llama_get_logits_ith(ctx, -1);\n}}\n"
    )
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run([str(COMPILER), *flags, str(source), "-o", str(binary)], check=True)

    model = fresh_model("llama")
    write_tiny(model.hf, tmp_path / "tiny.gguf")
    there = LlamaCpp(tmp_path / "tiny.gguf")
    value = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(3)) * 2
    vector = TaskVector(values=value, sites=sites_at([2], [-1]))
    expected, plain = there.log_probabilities(ids, vector), there.log_probabilities(ids)

    ctypes.CDLL(importlib.import_module("xllamacpp.xllamacpp").__file__, mode=ctypes.RTLD_GLOBAL)
    serve = ctypes.CDLL(str(binary)).served
    serve.restype = ctypes.POINTER(ctypes.c_float)
    there._c.llama_memory_clear(there._c.llama_get_memory(there._context), True)
    data, zeros = torch.zeros(2, there.n_layers - 1, there.d_model)
    data[1] = value  # direction.2
    found = serve(
        ctypes.c_void_p(there._model), ctypes.c_void_p(there._context),
        ctypes.c_void_p(data.data_ptr()), ctypes.c_void_p(zeros.data_ptr()),
        (ctypes.c_int32 * len(ids))(*ids), len(ids),
    )  # fmt: skip
    log_p = torch.tensor(found[: there.d_vocab]).log_softmax(dim=0)
    torch.testing.assert_close(log_p, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(log_p, plain, atol=0.1)
