"""How a model is loaded: its type, its device, its attention; names that are not there are refused.

Each error lists what this machine has, so that the next try works.
"""

import importlib.util
from typing import Any, Literal, get_args

import torch

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models.accelerator import first_device

DtypeName = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["4bit", "8bit"]
_NEEDS_EAGER = dict.fromkeys(
    ("gemma2", "vaultgemma"), "its attention scores are soft-capped, which sdpa leaves out"
)


def resolve_dtype(dtype: str | torch.dtype, device: str | None) -> torch.dtype:
    """The type that a name stands for on a device.

    Raises:
        TaskVectorsError: There is no such name.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in get_args(DtypeName):
        raise TaskVectorsError(f"there is no dtype {name!r}; {_one_of(get_args(DtypeName))}")
    if name != "auto":
        resolved: torch.dtype = getattr(torch, name)
        return resolved
    return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32


def resolve_device(device: str | None) -> str:
    """A device of this machine: the one that is named, else the first GPU, MPS or the CPU.

    Raises:
        TaskVectorsError: This machine has no such device.
    """
    here = _devices()
    if device is None:
        return first_device()
    if str(device) not in here:
        raise TaskVectorsError(f"there is no device {str(device)!r} here; {_one_of(here)}")
    return str(device)


def resolve_attention(model_type: str, asked: str | None) -> str | None:
    """The attention implementation to load with; None is transformers' own choice.

    Raises:
        TaskVectorsError: transformers has no such implementation, or a package of it is missing.
        UnsupportedModelError: The model type computes something else with it.
    """
    reason = _NEEDS_EAGER.get(model_type)
    if reason is not None and asked not in (None, "eager"):
        raise UnsupportedModelError(
            f"attention {asked!r} does not fit model type {model_type!r}: {reason}. Use 'eager'."
        )
    if reason is not None:
        return "eager"
    # owner/name is a kernel of the hub, which transformers fetches
    if asked is not None and "/" not in asked and asked not in (here := _attentions()):
        raise TaskVectorsError(f"there is no attention {asked!r} here; {_one_of(here)}")
    return asked


def quantization_config(kind: str) -> Any:
    """What tells transformers to load in fewer bits.

    Raises:
        TaskVectorsError: There is no such kind, or bitsandbytes is missing.
    """
    from transformers import BitsAndBytesConfig

    if kind not in get_args(Quantization):
        raise TaskVectorsError(
            f"there is no quantization {kind!r}; {_one_of(get_args(Quantization))}"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TaskVectorsError(f"quantization {kind!r} needs the package bitsandbytes; install it")
    if kind == "4bit":
        fewer: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    else:
        fewer = {"load_in_8bit": True}
    return BitsAndBytesConfig(**fewer)  # type: ignore[no-untyped-call]


def _one_of(names: tuple[str, ...]) -> str:
    return f"use one of {', '.join(names)}"


def _devices() -> tuple[str, ...]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found += ["mps", "mps:0"]
    if torch.xpu.is_available():
        found += ["xpu", *(f"xpu:{number}" for number in range(torch.xpu.device_count()))]
    return tuple(found)


def _attentions() -> tuple[str, ...]:
    from transformers.utils.import_utils import (
        is_flash_attn_2_available,
        is_flash_attn_3_available,
    )

    flash = {
        "flash_attention_2": is_flash_attn_2_available(),
        "flash_attention_3": is_flash_attn_3_available(),
    }
    return (
        "eager",
        "sdpa",
        "flex_attention",
        *(name for name, is_here in flash.items() if is_here),
    )


def _computes_in_bfloat16(device: str | None) -> bool:
    kind = resolve_device(device).partition(":")[0]
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
