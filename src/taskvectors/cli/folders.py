"""Where runs and vectors are put: where the user says, else a new folder among the user's data."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from taskvectors.errors import DataError


def folder_for(out: str, kind: Literal["runs", "vectors"], *words: str) -> Path:
    """The folder to write to.

    Args:
        out: What the user said; nothing for a new folder.
        kind: What it is for.
        words: What a new folder is named after; the time is added.
    """
    return Path(out).expanduser().absolute() if out else _new_folder(kind, words)


def same_folder(folders: Sequence[str]) -> str:
    """The first folder that was named before, in these words or in others; "" if none was."""
    places = [Path(folder).expanduser().absolute().resolve() for folder in folders]
    return next((folders[n] for n, place in enumerate(places) if place in places[:n]), "")


def user_folder(kind: Literal["runs", "vectors"]) -> Path:
    """Where runs or vectors are put that nobody named a folder for."""
    from platformdirs import user_data_path

    return user_data_path("taskvectors") / kind


def _new_folder(kind: Literal["runs", "vectors"], words: Sequence[str]) -> Path:
    names = [re.sub(r"[^\w.]+", "-", Path(word).name or word).strip("-.") for word in words]
    name = "-".join([*filter(None, names), time.strftime("%Y%m%d-%H%M%S")])
    folder = user_folder(kind) / name
    others = (folder.with_name(f"{name}-{number}") for number in range(2, 1000))
    return folder if not folder.exists() else next(one for one in others if not one.exists())


_LEAST_FREE = 1 << 20
"""Bytes that have to be free for the work on a vector to begin."""


@contextmanager
def room_for_vector(folder: Path) -> Iterator[None]:
    """While inside, nobody else makes a vector in a folder; whether it can be saved is seen before.

    Raises:
        DataError: Another process works on it, something else lies there, or it cannot be written.
    """
    # beside the folder, which is replaced as a whole
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        is_taken = folder.is_file() or (
            folder.is_dir()
            and any(folder.iterdir())
            and not (folder / "vector.safetensors").is_file()
        )
        if is_taken:
            raise DataError(
                f"{folder} holds something else than a vector; give a new folder as --out"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder.parent).free < _LEAST_FREE:
            raise DataError(f"no room is left where {folder} is; give another --out")
        with tempfile.TemporaryDirectory(prefix=f"{folder.name[:80]}.", dir=folder.parent):
            lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"another process works on {folder}; wait until it has ended, or give another --out"
        ) from error
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}); give another --out"
        ) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # nobody waits for it
        lock.release()
