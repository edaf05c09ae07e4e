"""A vector on disk: a folder with `vector.safetensors` and `config.json`.

The folder is written under another name and renamed when whole, so under its own name there is
never half a vector. Reading takes nothing on trust: unknown keys, another format and changed bytes
are errors.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import fitting, read_json, write_whole
from taskvectors.trunk.edits import Operation
from taskvectors.vectors.origin import VectorOrigin
from taskvectors.vectors.site import Site
from taskvectors.vectors.task_vector import TaskVector

FORMAT = 1
"""Raised when a file of this version cannot be read by the last one."""
VALUES, CONFIG = "vector.safetensors", "config.json"
BEST = "best-vector"
"""The vector of a run folder."""


def _today(operation: Any) -> Any:
    """`turn` is what earlier versions call `rotate`."""
    return "rotate" if operation == "turn" else operation


class _Fingerprint(BaseModel):
    """The part of a model's fingerprint that is compared."""

    shapes: str
    samples: dict[str, tuple[float, ...]]
    is_quantized: bool


class _Config(BaseModel):
    """`config.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    operation: Annotated[Operation, BeforeValidator(_today)]
    sites: tuple[Site, ...]
    sha256: str
    """Of `vector.safetensors`."""
    origin: VectorOrigin


def save_vector(vector: TaskVector, folder: str | PathLike[str]) -> None:
    """Write a vector to a folder, whole or not at all; a vector that is there is replaced.

    Args:
        vector: The vector; its values are written as float32.
        folder: A new folder, an empty one, or one that holds nothing but a vector.

    Raises:
        DataError: The folder is something else, or the origin is not plain data.
    """
    folder = Path(folder).expanduser().resolve()
    _check_replaceable(folder)
    values, config = _serialized(vector)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # a name that nobody can know before, in a folder that is made anew
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name[:80]}.", dir=folder.parent))
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}); name another") from error
    try:
        write_whole(partial / VALUES, values)
        write_whole(partial / CONFIG, config)
        _put_in_place(partial, folder)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def load_vector(folder: str | PathLike[str]) -> TaskVector:
    """Read a vector from a folder, or a control vector from a `.gguf` file.

    Args:
        folder: What `save_vector` wrote, a run folder that has it as `best-vector`, or the file.

    Raises:
        DataError: A file is missing, damaged, of another format, or says what is not known.
    """
    folder = Path(folder).expanduser()
    if folder.suffix == ".gguf" and not folder.is_dir():
        from taskvectors.vectors.gguf import read_gguf

        return read_gguf(folder)
    if not (folder / VALUES).exists() and (folder / BEST).is_dir():
        folder = folder / BEST
    config = _read_config(folder)
    values = _read_values(folder, config)
    try:
        return TaskVector(
            values=values, sites=config.sites, operation=config.operation, origin=config.origin
        )
    except (ValueError, TaskVectorsError) as error:
        raise DataError(f"{folder} holds no usable vector: {error}") from error


def as_vector(vector: Any) -> TaskVector:
    """A vector; a path is read.

    Raises:
        TaskVectorsError: It is neither.
    """
    if isinstance(vector, TaskVector):
        return vector
    if isinstance(vector, str | PathLike):
        return load_vector(vector)
    raise TaskVectorsError(
        f"the vector is of type {type(vector).__name__}; give a TaskVector or its folder"
    )


def _serialized(vector: TaskVector) -> tuple[bytes, str]:
    values = save_tensors({"values": vector.values.cpu().float().contiguous()})
    config = {
        "format": FORMAT,
        "operation": vector.operation,
        "sites": [asdict(site) for site in vector.sites],
        "sha256": hashlib.sha256(values).hexdigest(),
        "origin": asdict(vector.origin),
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
        _Config.model_validate_json(text)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the origin of this vector cannot be written as JSON: {_first_line(error)}. Settings "
            "and scores are numbers, texts, lists and dicts; None is what was not measured."
        ) from error
    return values, text + "\n"


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else None
    if found is None or found not in (set(), {VALUES, CONFIG}):
        holds = "a file" if found is None else f"a folder with {', '.join(sorted(found)[:4])}"
        raise DataError(
            f"{folder} is {holds}, not a vector, and is not overwritten; give a new folder"
        )


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.replace(folder)
        return
    # folders cannot be exchanged in one step: the old one steps aside and comes back if that fails
    old = partial.with_name(partial.name + ".old")
    folder.replace(old)
    try:
        partial.replace(folder)
    except BaseException:
        old.replace(folder)
        raise
    shutil.rmtree(old)


def _read_config(folder: Path) -> _Config:
    path = folder / CONFIG
    if not path.is_file():
        raise DataError(_missing(folder, CONFIG))
    found: dict[str, Any] = read_json(path, dict[str, Any], _AGAIN)
    if found.get("format") != FORMAT:
        raise DataError(
            f"{path} is of format {found.get('format')!r}, and this taskvectors reads format "
            f"{FORMAT}; update taskvectors, or save the vector again"
        )
    config: _Config = read_json(path, _Config, _AGAIN)
    if config.origin.fingerprint:
        fitting(config.origin.fingerprint, _Fingerprint, path, _AGAIN)
    return config


_AGAIN = "save the vector again"


def _read_values(folder: Path, config: _Config) -> Tensor:
    path = folder / VALUES
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(_missing(folder, VALUES)) from error
    if hashlib.sha256(raw).hexdigest() != config.sha256:
        raise DataError(
            f"{path} is damaged: its bytes are not those {CONFIG} was written for; save it again"
        )
    try:
        tensors = load_tensors(raw)
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from error
    values = tensors.get("values")
    if values is None or len(tensors) != 1 or values.dim() != 2 or values.dtype != torch.float32:
        held = ", ".join(f"{name} {list(t.shape)} {t.dtype}" for name, t in tensors.items())
        raise DataError(
            f"{path} holds {held or 'nothing'}; expected is float32 `values` [site, d_model]"
        )
    return values


def _missing(folder: Path, name: str) -> str:
    message = f"{folder} is not a vector: it has no readable {name}"
    absolute = folder.resolve()
    left = sorted(absolute.parent.glob(f".{absolute.name}.*.old"))
    if left and not absolute.exists():
        return f"{message}. A save was cut off while it replaced one; the old vector is {left[-1]}."
    return f"{message}; give a folder written by TaskVector.save"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
