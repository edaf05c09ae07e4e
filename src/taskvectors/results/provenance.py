"""What a run is made from: hashes of pairs and weights, and versions, by names in words."""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import torch
from torch import Tensor

from taskvectors._version import __version__
from taskvectors.models import EMBEDDED, LanguageModel
from taskvectors.models.random_model import RANDOM_MODELS
from taskvectors.tasks import Task, load_task
from taskvectors.tasks.hub import PREFIX

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16
"""Blocks of a file of weights that are hashed, spread over it, and their size."""


def versions() -> dict[str, str]:
    """Versions of what a run computes with, as `config.json` has them."""
    import transformers

    return {
        "taskvectors": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def inputs_of_versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    return {name: value for name, value in versions().items() if name != "python"}


def inputs_of_task(task: Task, label: str = "") -> dict[str, str]:
    """The hash of a task's pairs, split by split.

    Args:
        task: The task.
        label: What the user calls it; its name by default.
    """
    splits = (task.train, task.validation, task.test)
    pairs = [[astuple(pair) for pair in split] for split in splits]
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    return {f"the pairs of {label or task.name}, seed {task.seed}": digest}


def inputs_of_named_task(task: str, seeds: Sequence[int]) -> dict[str, str]:
    """The hash of what a task is loaded from; nothing for a task that comes with the package.

    Args:
        task: A file, a folder, a data set of the hub, or a built-in name.
        seeds: Seeds that a data set of the hub is split by.
    """
    path = Path(task).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in filter(Path.is_file, files):
        digest.update(f"{file.name}:".encode() + file.read_bytes())
    if path.exists():
        return {f"the file {task}": digest.hexdigest()}
    if not task.startswith(PREFIX):
        return {}
    found: dict[str, str] = {}
    for seed in seeds:
        found |= inputs_of_task(load_task(task, seed=seed), task)
    return found


def inputs_of_model(model: LanguageModel) -> dict[str, str]:
    """The hash of a model's weights: an exact sum of the bits of every parameter.

    It does not depend on devices or threads, and takes one pass over the weights.
    """
    digest = hashlib.sha256(json.dumps(model.fingerprint, sort_keys=True).encode())
    for name, parameter in sorted(model.hf.named_parameters()):
        digest.update(f"{name}:{_sum_of_bits(parameter.detach())};".encode())
    return {f"the weights of {model.source}": digest.hexdigest()}


def inputs_of_source(source: str, revision: str | None = None) -> dict[str, str]:
    """The hash of a model's files, without loading it; of a model of the hub, its commit.

    Sizes, and blocks that are spread over every file of weights. Nothing for a model that comes
    with the package, and for one that cannot be reached, which loading will say.
    """
    path = Path(source).expanduser()
    if not path.exists():
        is_ours = source == EMBEDDED or source in RANDOM_MODELS
        commit = "" if is_ours else _commit_of(source, revision)
        return {f"the weights of {source}": commit} if commit else {}
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.suffix in _WEIGHTS and file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.name}:{size};".encode())
            with file.open("rb") as opened:
                for number in range(_SAMPLES):
                    opened.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
                    digest.update(opened.read(_SAMPLE_BYTES))
    return {f"the weights of {source}": digest.hexdigest()}


def _commit_of(source: str, revision: str | None) -> str:
    """The commit of the hub that a model would be loaded from; empty where it is not reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        config = hf_hub_download(source, "config.json", revision=revision)
    except (OSError, HfHubHTTPError, HFValidationError):
        return ""
    return Path(config).parent.name  # .../snapshots/COMMIT/config.json


def _sum_of_bits(parameter: Tensor) -> int:
    size = parameter.element_size()
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = parameter.contiguous().view(kinds[min(size, 8)])
    return int(bits.sum(dtype=torch.int64))
