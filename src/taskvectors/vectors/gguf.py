"""Control vectors in GGUF files, as repeng writes and llama.cpp reads them.

Such a file holds one direction per block and nothing about positions: what reads it adds
`direction.N` to the output of block N, at every token of prompt and answer. Only a vector that acts
so is the same vector there. Block 0 cannot be written: llama.cpp refuses a file with `direction.0`.
"""

import importlib.util
import json
import logging
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.vectors.everywhere import EVERY_TOKEN, acts_everywhere, directions_of
from taskvectors.vectors.origin import VectorOrigin
from taskvectors.vectors.site import sites_at
from taskvectors.vectors.task_vector import TaskVector

logger = logging.getLogger(__name__)

_ARCHITECTURE = "controlvector"
_DIRECTION = "direction."
_NUMBER = re.compile("[0-9]{1,6}")
_NO_FAMILY = "unknown"
"""The hint of a vector without a family: repeng refuses a file without one."""


def write_gguf(
    vector: TaskVector, path: str | PathLike[str], *, force: bool = False
) -> tuple[str, ...]:
    """Write a vector as a control vector of repeng and llama.cpp.

    Args:
        vector: What is added to the residual stream after blocks 1 and up.
        path: The file; it is replaced if it is there.
        force: Write a vector that acts at some tokens only, too. Read there, it acts at all.

    Returns:
        What is to be known about the file, in sentences.

    Raises:
        TaskVectorsError: A control vector cannot be what this vector is; the message says why.

    Source: the format of https://github.com/vgel/repeng, as llama.cpp reads it. We differ: further
        keys, which both ignore, say what the vector is; layers start at 1.
    """
    directions = directions_of(vector, "a control vector", lowest=1)
    told = [
        "llama.cpp adds it at every token of prompt and answer; scale it there with "
        "--control-vector-scaled FILE:SCALE",
        "llama.cpp has architectures that read no control vectors, and says nothing then: see that "
        "it changes what is written",
    ]
    if not acts_everywhere(vector):
        reason = (
            f"{vector.origin.label} acts at {', '.join(map(str, vector.positions))} only, and a "
            "control vector acts at every token of prompt and answer: it would be another vector, "
            "with other results"
        )
        if not force:
            raise TaskVectorsError(
                f"{reason}. Make one at the positions all and generated, or write it all the same "
                "with force (--force)"
            )
        told.insert(0, f"{reason}. It was written by force")
    _write(vector, directions, Path(path).expanduser())
    return tuple(told)


def read_gguf(path: str | PathLike[str]) -> TaskVector:
    """A control vector out of a GGUF file of repeng, llama.cpp or EasySteer.

    Args:
        path: The file. `direction.N` is added after block N, counted from 0, at every token, as
            llama.cpp does whoever wrote it.

    Raises:
        DataError: It is no such file.
    """
    path = Path(path).expanduser()
    keys, directions = _read(path)
    layers = sorted(directions)
    if keys.get("general.architecture") != _ARCHITECTURE:
        logger.warning(
            "%s says its architecture is %r, not %r; its directions are read all the same",
            path,
            keys.get("general.architecture"),
            _ARCHITECTURE,
        )
    hint = str(keys.get(f"{_ARCHITECTURE}.model_hint", ""))
    sites = tuple(site for layer in layers for site in sites_at([layer], sorted(EVERY_TOKEN)))
    notes = [f"read from {path.name}"]
    if keys.get(f"{_ARCHITECTURE}.positions"):
        notes.append(f"made for positions {keys[f'{_ARCHITECTURE}.positions']}")
    try:
        return TaskVector(
            values=torch.stack([directions[site.layer] for site in sites]),
            sites=sites,
            operation="add",
            origin=VectorOrigin(
                method=str(keys.get(f"{_ARCHITECTURE}.method", "control-vector")),
                family="" if hint == _NO_FAMILY else hint,
                task=str(keys.get(f"{_ARCHITECTURE}.task", "")),
                template=str(keys.get(f"{_ARCHITECTURE}.template", "")),
                notes=tuple(notes),
            ),
        )
    except (RuntimeError, TaskVectorsError) as error:
        raise DataError(f"{path} holds no usable control vector: {error}") from error


def _write(vector: TaskVector, directions: dict[int, Tensor], path: Path) -> None:
    gguf = _package(path)
    origin = vector.origin
    # what nobody else reads
    about = {
        "method": origin.method,
        "task": origin.task,
        "template": origin.template,
        "model": origin.model,
        "revision": origin.revision,
        "weights": str(origin.fingerprint.get("shapes", "")),
        "positions": json.dumps(list(vector.positions)),
        "layers": "direction.N is added to the output of block N, counted from 0",
    }

    def write(partial: Path) -> None:
        writer = gguf.GGUFWriter(partial, _ARCHITECTURE)
        try:
            # what repeng writes
            writer.add_string(f"{_ARCHITECTURE}.model_hint", origin.family or _NO_FAMILY)
            writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(directions))
            for name, text in about.items():
                if text:
                    writer.add_string(f"{_ARCHITECTURE}.{name}", text)
            for layer, value in sorted(directions.items()):
                writer.add_tensor(f"{_DIRECTION}{layer}", value.cpu().float().contiguous().numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, write)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); name another") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[int, Tensor]]:
    """Keys and directions of a file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}; give a GGUF file with a control vector")
    gguf = _package(path)
    try:
        reader = gguf.GGUFReader(path)
        keys = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # which kinds gguf and numpy raise depends on the bytes
        said = str(error) or type(error).__name__
        raise DataError(f"{path} is not a whole GGUF file ({said}); download it again") from error
    directions: dict[int, Tensor] = {}
    for tensor in reader.tensors:
        number = tensor.name.removeprefix(_DIRECTION)
        if tensor.name.startswith(_DIRECTION) and _NUMBER.fullmatch(number):
            if tensor.tensor_type != gguf.GGMLQuantizationType.F32 or len(tensor.shape) != 1:
                raise DataError(f"{tensor.name} of {path} is not one line of float32 numbers")
            if int(number) in directions:
                raise DataError(f"{path} has two directions for layer {int(number)}; keep one")
            directions[int(number)] = torch.from_numpy(tensor.data.copy())
    if not directions:
        held = ", ".join(tensor.name for tensor in reader.tensors[:3]) or "no tensors"
        raise DataError(f"{path} has no tensor direction.N ({held}); it is no control vector")
    return keys, directions


def _package(path: Path) -> Any:
    if importlib.util.find_spec("gguf") is None:
        raise TaskVectorsError(
            f"{path.name} needs the package gguf; install taskvectors[demo], or gguf alone"
        )
    import gguf

    return gguf
