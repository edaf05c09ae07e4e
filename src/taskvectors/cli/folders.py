"""Where runs and vectors are put: where the user says, else a new folder among the user's data."""

import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from taskvectors.errors import DataError

logger = logging.getLogger(__name__)


def folder_for(out: str, kind: Literal["runs", "vectors"], *words: str) -> Path:
    """The folder to write to.

    Args:
        out: What the user said; nothing for a new folder.
        kind: What it is for.
        words: What a new folder is named after; the time is added.
    """
    folder = Path(out).expanduser().absolute() if out else _new_folder(kind, words)
    if kind == "runs":
        logger.info(
            "The run is in %s; with --out and that folder it goes on if it is cut off", folder
        )
    return folder


def _new_folder(kind: str, words: Sequence[str]) -> Path:
    from platformdirs import user_data_path

    names = [re.sub(r"[^\w.]+", "-", Path(word).name or word).strip("-.") for word in words]
    name = "-".join([*filter(None, names), time.strftime("%Y%m%d-%H%M%S")])
    folder = user_data_path("taskvectors") / kind / name
    others = (folder.with_name(f"{name}-{number}") for number in range(2, 1000))
    return folder if not folder.exists() else next(one for one in others if not one.exists())


def check_room_for_vector(folder: Path) -> None:
    """Raise before the work is done if a vector could not be saved after it.

    Raises:
        DataError: Something else lies there, or the folder cannot be made.
    """
    is_taken = folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / "vector.safetensors").is_file()
    )
    if is_taken:
        raise DataError(f"{folder} holds something else than a vector; give a new folder as --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error}; give another --out") from error
