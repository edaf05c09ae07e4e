"""llama.cpp's C API, out of the shared library that the package xllamacpp brings.

The package ships no headers. Two structs of parameters and one of a batch are only handed from one
function to the next, so they are held as opaque bytes, larger than any of them. Of the context's
parameters the first three numbers are known, and checked: a library where they are others is
refused.
"""

import ctypes
import functools
import importlib
import logging
from collections import deque
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from taskvectors.errors import TaskVectorsError, require_package

logger = logging.getLogger(__name__)

_N_BYTES = 2048
"""Of an opaque struct: several times the largest of them, which all calls give and take by value,
in memory."""
_CONTEXT_DEFAULTS = (512, 2048, 512)
"""n_ctx, n_batch and n_ubatch of `llama_context_default_params`, its first three fields."""
_ERROR = 4
"""GGML_LOG_LEVEL_ERROR."""


class Opaque(ctypes.Structure):
    """A struct that is passed on unread, or by its first numbers."""

    _fields_ = (("numbers", ctypes.c_uint32 * (_N_BYTES // 4)),)


_POINTER, _INT, _TEXT, _BOOL = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_bool
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_batch_get_one": (Opaque, (_POINTER, _INT)),
    "llama_context_default_params": (Opaque, ()),
    "llama_decode": (_INT, (_POINTER, Opaque)),
    "llama_detokenize": (_INT, (_POINTER, _POINTER, _INT, _TEXT, _INT, _BOOL, _BOOL)),
    "llama_free": (None, (_POINTER,)),
    "llama_get_logits_ith": (_POINTER, (_POINTER, _INT)),
    "llama_get_memory": (_POINTER, (_POINTER,)),
    "llama_init_from_model": (_POINTER, (_POINTER, Opaque)),
    "llama_log_set": (None, (_POINTER, _POINTER)),
    "llama_memory_clear": (None, (_POINTER, _BOOL)),
    "llama_model_default_params": (Opaque, ()),
    "llama_model_free": (None, (_POINTER,)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)),
    "llama_model_load_from_file": (_POINTER, (_TEXT, Opaque)),
    "llama_model_n_ctx_train": (_INT, (_POINTER,)),
    "llama_model_n_embd": (_INT, (_POINTER,)),
    "llama_model_n_layer": (_INT, (_POINTER,)),
    "llama_set_adapter_cvec": (_INT, (_POINTER, _POINTER, ctypes.c_size_t, _INT, _INT, _INT)),
    "llama_set_n_threads": (None, (_POINTER, _INT, _INT)),
    "llama_tokenize": (_INT, (_POINTER, _TEXT, _INT, _POINTER, _INT, _BOOL, _BOOL)),
    "llama_vocab_is_eog": (_BOOL, (_POINTER, _INT)),
    "llama_vocab_n_tokens": (_INT, (_POINTER,)),
}
"""What is called of `llama.h`: the result's type, and the arguments'."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Library:
    """The functions of `llama.h`, as `functions.llama_...`, and what they report."""

    functions: Any
    errors: deque[str]
    """The last errors that llama.cpp logged."""
    name: str
    """The package and its version."""
    callback: Any
    """What llama.cpp logs with, as long as the process lives."""


@functools.cache
def library() -> Library:
    """llama.cpp's library, loaded once.

    Raises:
        TaskVectorsError: xllamacpp is not installed, or its llama.cpp has another interface.
    """
    require_package("xllamacpp", "llama-cpp", "llama.cpp")
    module = importlib.import_module("xllamacpp.xllamacpp")
    name = f"xllamacpp {version('xllamacpp')}"
    functions = ctypes.CDLL(str(Path(str(module.__file__))))
    errors: deque[str] = deque(maxlen=3)
    _declare(functions, name)

    def log(level: int, text: bytes, _: Any) -> None:
        said = text.decode(errors="replace").strip()
        logger.debug("%s", said)
        if level == _ERROR and said:
            errors.append(said)

    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(log)
    functions.llama_log_set(callback, None)
    functions.llama_backend_init()
    return Library(functions=functions, errors=errors, name=name, callback=callback)


def _declare(functions: Any, name: str) -> None:
    """Give the functions their types, and check what is known of their structs."""
    for function, (result, arguments) in _FUNCTIONS.items():
        if not hasattr(functions, function):
            raise TaskVectorsError(_other(name, f"it has no {function}"))
        getattr(functions, function).restype = result
        getattr(functions, function).argtypes = arguments
    found = tuple(functions.llama_context_default_params().numbers[:3])
    if found != _CONTEXT_DEFAULTS:
        raise TaskVectorsError(
            _other(name, f"its context parameters begin with {found}, not {_CONTEXT_DEFAULTS}")
        )


def _other(name: str, reason: str) -> str:
    return (
        f"{name} has a llama.cpp with another interface than is known here: {reason}; install "
        "xllamacpp==2026.10.11549"
    )
