"""Files that are there whole, or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PARTIAL = ".partial"
"""How names end while a file is written; what a kill left behind is told by it."""


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


def _umask() -> int:
    """The mask of new files' rights, which mkstemp does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
