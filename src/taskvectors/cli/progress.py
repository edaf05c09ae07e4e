"""What is said while a verb runs: on standard error, line by line, with the time that passed."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = "taskvectors"


def teller() -> Callable[[str], None]:
    """Something to say sentences with; each stands beside the seconds since now."""
    started = time.perf_counter()

    def say(sentence: str) -> None:
        _write(f"[{time.perf_counter() - started:5.0f} s] {sentence}")

    return say


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


@contextmanager
def logging_to_stderr(verbose: bool) -> Iterator[None]:
    """While inside, what the package logs is written: warnings, and with `verbose` more."""
    logger = logging.getLogger(_PACKAGE)
    handler, level = _Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
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
    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        _write(f"{mark}{one_line(record.getMessage())}")


def _write(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)  # a bar that is being drawn stays below
    sys.stderr.flush()
