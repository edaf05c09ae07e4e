"""Messages while a verb runs: what the package logs, on standard error, with the time passed."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskvectors.format import shortened

_PACKAGE = "taskvectors"


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


@contextmanager
def logging_to_stderr(verbose: bool) -> Iterator[None]:
    """While inside, what the package logs is written: from INFO up, with `verbose` from DEBUG."""
    logger = logging.getLogger(_PACKAGE)
    handler, level = _Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def hush_transformers(source: str) -> None:
    """Keep transformers from telling how it loads a model, unless the environment asks for that.

    Has to come before transformers is imported. A model that has to be downloaded keeps its bars.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if source == "embedded" or Path(source).expanduser().exists():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class _Handler(logging.Handler):
    """Writes one line per record: its level from WARNING up, else the seconds that passed."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if record.levelno >= logging.WARNING:
            mark = f"{record.levelname.lower()}:"
        else:
            mark = f"[{time.perf_counter() - self._started:5.0f} s]"
        line = f"{mark} {one_line(shortened(record.getMessage()))}"
        tqdm.write(line, file=sys.stderr)  # a bar that is being drawn stays below
        sys.stderr.flush()
