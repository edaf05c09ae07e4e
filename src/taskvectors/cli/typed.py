"""What was typed, for a run to say how it was made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_WORDS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())


@contextmanager
def typed(words: Sequence[str]) -> Iterator[None]:
    """While inside, these are the words after the program's name."""
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def command_line() -> tuple[str, ...]:
    """The program and the words that were typed after it."""
    return ("taskvectors", *_WORDS.get())
