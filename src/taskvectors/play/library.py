"""The vectors that a playground offers: those of folders, each under a name that tells it apart."""

import logging
from collections.abc import Iterable
from pathlib import Path

from taskvectors.errors import DataError
from taskvectors.files import folders_with
from taskvectors.format import after_layers
from taskvectors.vectors import TaskVector

logger = logging.getLogger(__name__)


def load_vectors(places: Iterable[Path]) -> dict[str, TaskVector]:
    """The vectors at or below some folders, runs included, newest first; what is damaged is logged.

    Args:
        places: Folders of vectors or of runs, or that hold such; one that is not there has none.
    """
    folders = [
        folder for place in places for folder in folders_with(place, "vector.safetensors", depth=2)
    ]
    found: dict[str, TaskVector] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        try:
            vector = TaskVector.load(folder)
        except DataError as error:
            logger.warning("left out: %s", error)
            continue
        found[_free(_name(vector, folder), found)] = vector
    return found


def _name(vector: TaskVector, folder: Path) -> str:
    """Such as `capital, learned, after layer 9 (capital-l9)`."""
    layers = ["embed" if layer < 0 else layer for layer in vector.layers]
    words = (vector.origin.task, vector.origin.method, after_layers(layers))
    home = folder.parent if folder.name == "best-vector" else folder
    return f"{', '.join(filter(None, words))} ({home.name})"


def _free(name: str, taken: Iterable[str]) -> str:
    numbered = (f"{name} {number}" for number in range(2, 10_000))
    return name if name not in set(taken) else next(one for one in numbered if one not in taken)
