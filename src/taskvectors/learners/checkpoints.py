"""Files of a run of learners: whose run it is, and where its training stands."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from taskvectors.errors import DataError
from taskvectors.files import read_json, read_torch, write_whole


class Checkpoint(BaseModel):
    """Where a training stands."""

    step: int
    weights: dict[str, Any]
    optimizer: dict[str, Any]
    metrics: list[dict[str, Any]]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    held = dict(checkpoint)
    write_whole(path, lambda partial: torch.save(held, partial))


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a checkpoint; its tensors go to a device.

    Raises:
        DataError: It is damaged.
    """
    advice = "delete it, and training starts from its beginning"
    checkpoint: Checkpoint = read_torch(path, Checkpoint, device, advice)
    return checkpoint


def check_same_run(path: Path, asked: Mapping[str, Any]) -> None:
    """Check that a folder is new, or holds the run that is asked for.

    Args:
        path: The file that says what was asked for.
        asked: What is asked for, as plain data.

    Raises:
        DataError: It holds another run.
    """
    if not path.is_file():
        return
    held = read_json(path, dict[str, Any], "name a new folder")
    changed = sorted(name for name in {*held, *asked} if held.get(name) != asked.get(name))
    if changed:
        raise DataError(
            f"{path.parent} holds a run with other settings ({', '.join(changed)}); give a new "
            "folder, or the same settings to go on with it"
        )


def write_run(path: Path, asked: Mapping[str, Any]) -> None:
    """Write what was asked for, so that the same run goes on and another is refused."""
    write_whole(path, json.dumps(asked, indent=1) + "\n")
