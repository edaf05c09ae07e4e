"""Vectors of the function-vector repository: `.pt` files with one tensor and nothing about it.

Such a file can be a pickle of anything, so only tensors are read out of it, never code.
"""

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from taskvectors.errors import DataError
from taskvectors.files import read_torch
from taskvectors.vectors.origin import VectorOrigin
from taskvectors.vectors.site import sites_at
from taskvectors.vectors.task_vector import TaskVector


def read_function_vector(path: str | PathLike[str], layer: int) -> TaskVector:
    """A function vector out of a `.pt` file, added after a block at the last token.

    Args:
        path: A file with one tensor `[d_model]` or `[1, d_model]`.
        layer: The block, from 0; the file does not say it. Theirs counts the same way (the GPT-J
            vectors of the paper are at layer 9).

    Raises:
        DataError: The file holds something else, or would run code when read.

    Source: https://github.com/ericwtodd/function_vectors, of Todd et al. (2024),
        https://arxiv.org/abs/2310.15213.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file {path}; give a .pt file with one vector")
    found: Any = read_torch(path, Any, "cpu", "download it again")
    is_vector = isinstance(found, torch.Tensor) and (
        found.dim() == 1 or (found.dim() == 2 and found.shape[0] == 1)
    )
    if not is_vector or not found.is_floating_point():
        held = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise DataError(
            f"{path} holds {held}; expected is one vector, [d_model] or [1, d_model]. Mean head "
            "activations and indirect effects are other files of that repository"
        )
    return TaskVector(
        values=found.detach().float().reshape(1, -1),
        sites=sites_at([layer], [-1]),
        origin=VectorOrigin(method="function-vector", notes=(f"read from {path.name}",)),
    )
