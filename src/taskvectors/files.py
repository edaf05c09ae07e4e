"""Files that are there whole, or not at all, and that are believed once they fit their schema."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from taskvectors.errors import DataError

PARTIAL = ".partial"
"""How names end while a file is written; what a kill left behind is told by it."""


def folders_with(place: Path, name: str, *, depth: int) -> list[Path]:
    """Folders at or below a place that hold a file of a name, the last one changed first.

    Args:
        place: Where to look.
        name: Name of the file.
        depth: How many folders below it.
    """
    found = [path for n in range(depth + 1) for path in place.glob("/".join([*["*"] * n, name]))]
    found = [path for path in found if not path.parent.name.startswith(".")]
    return [path.parent for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)]


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file under another name, flush it to the disk, and rename it.

    Args:
        path: The file; its folder exists.
        content: Text (written as UTF-8 with plain newlines), bytes, or a function that writes the
            file at the path it is given.

    Raises:
        OSError: It could not be written; the file is as it was before.
    """
    # a name that nobody can know before, in a file that is made anew: links are not followed
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name[:80]}.", suffix=PARTIAL, dir=path.parent
    )
    partial = Path(name)
    try:
        if callable(content):
            os.close(descriptor)
            content(partial)
            descriptor = os.open(partial, os.O_RDONLY)
        else:
            data = content.encode("utf-8") if isinstance(content, str) else content
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(data)
        os.fsync(descriptor)
        os.close(descriptor)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, schema: Any, advice: str) -> Any:
    """A JSON file, as its schema has it.

    Args:
        path: The file.
        schema: A type that pydantic checks.
        advice: What to do about a file that is damaged.

    Raises:
        DataError: It cannot be read, is no JSON, or does not fit; the message names the place.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); {advice}") from error
    with _said_of(path, advice):
        return _adapter(schema).validate_json(text)


def fitting(value: Any, schema: Any, path: Path, advice: str) -> Any:
    """A value that a file holds, as its schema has it.

    Args:
        value: The value.
        schema: A type that pydantic checks.
        path: The file, for the message.
        advice: What to do about a file that is damaged.

    Raises:
        DataError: It does not fit; the message names the place.
    """
    with _said_of(path, advice):
        return _adapter(schema).validate_python(value)


@contextmanager
def _said_of(path: Path, advice: str) -> Iterator[None]:
    """Turn what pydantic says of a value into an error about the file that holds it."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = f"{where}: {first['msg']}" if where else first["msg"]
        raise DataError(f"{path} is damaged ({said}); {advice}") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({error}); {advice}") from error


def read_torch(path: Path, schema: Any, device: Any, advice: str) -> Any:
    """A file that `torch.save` wrote, of tensors and plain values; nothing else is read out of it.

    Args:
        path: The file.
        schema: A type that pydantic checks.
        device: Where its tensors go.
        advice: What to do about a file that is damaged.

    Raises:
        DataError: It cannot be read, holds something else, or does not fit.
    """
    import torch

    try:
        held = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # which kinds torch and pickle raise depends on the bytes
        # what torch says of it is how to run the code that a pickle may hold
        raise DataError(
            f"{path} is not a file of tensors and plain values alone, and nothing else is read; "
            f"{advice}"
        ) from error
    return fitting(held, schema, path, advice)


@lru_cache
def _adapter(schema: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def _umask() -> int:
    """The mask of new files' rights, which mkstemp does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
