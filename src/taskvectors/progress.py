"""Progress of long work: a bar where a person can see one, log lines elsewhere, and the time left.

A bar is drawn on standard error in a terminal and by IPython in a notebook. In a pipe, a file or a
scheduler's log the same facts are logged at level INFO, at growing intervals. Nothing is written to
standard output.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

_FIRST_LINE, _LONGEST_SILENCE = 10.0, 60.0
"""Seconds before the first log line, and the most between two."""


def format_duration(seconds: float) -> str:
    """A time span with at most two units.

    Example:
        >>> [format_duration(seconds) for seconds in (0.034, 7.25, 75.2, 200, 4000)]
        ['0.03 s', '7.2 s', '75 s', '3 min 20 s', '1 h 6 min']
    """
    if seconds < 120:
        decimals = 2 if seconds < 1 else 1 if seconds < 10 else 0
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


@dataclass(kw_only=True)
class Throughput:
    """How fast work went so far, in units of any kind: tokens, steps, groups."""

    done: float = 0.0
    seconds: float = 0.0

    def update(self, done: float, seconds: float) -> None:
        """Count work that was done."""
        self.done += done
        self.seconds += seconds

    def time_for(self, amount: float) -> str:
        """How long some amount will take, in words; empty before anything was counted.

        Example:
            >>> Throughput(done=2, seconds=60).time_for(4)
            'about 2 min 0 s'
        """
        return f"about {format_duration(self.seconds / self.done * amount)}" if self.done else ""


class Progress:
    """Work in progress: what `track` gives.

    Args:
        name: What is being done.
        total: Units of the whole.
        initial: Units that were done before.
        bar: The bar that is drawn; log lines if None.
        clock: Seconds that passed.
    """

    def __init__(
        self,
        name: str,
        total: int,
        *,
        initial: int = 0,
        bar: Any = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name, self.total, self.done = name, total, initial
        self._initial, self._bar, self._clock = initial, bar, clock
        self._note = ""
        self._started = clock()
        self._next_line = _FIRST_LINE

    def update(self, n: int = 1, note: str = "") -> None:
        """Count units that are done.

        Args:
            n: How many.
            note: How it stands, such as the loss; the last one stays until there is another.
        """
        self.done += n
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
            return
        passed = self._clock() - self._started
        if passed >= self._next_line and self.done < self.total:
            # lines at 10, 20, 40, 80 s, then once a minute
            self._next_line = passed + min(max(passed, _FIRST_LINE), _LONGEST_SILENCE)
            logger.info("%s", self._line(passed))

    def _line(self, passed: float) -> str:
        speed = Throughput(done=self.done - self._initial, seconds=passed)
        parts = (f"{self.done} of {self.total}", self._note)
        left = f"{speed.time_for(self.total - self.done)} left"
        return f"{self.name}: {', '.join(part for part in (*parts, left) if part)}"


@contextmanager
def track(name: str, total: int, *, initial: int = 0, unit: str = "step") -> Iterator[Progress]:
    """Show how far work is, and how long the rest takes.

    Args:
        name: What is being done, such as "learning".
        total: Units of the whole.
        initial: Units that were done before, as in a run that goes on.
        unit: What is counted, in the singular.

    Example:
        >>> with track("learning", 3) as progress:
        ...     for step in range(3):
        ...         progress.update(note=f"loss {1 / (step + 1):.2f}")
        >>> progress.done
        3
    """
    if not _is_seen():
        yield Progress(name, total, initial=initial)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns of a notebook without ipywidgets
        from tqdm.auto import tqdm
    with tqdm(total=total, initial=initial, desc=name, unit=unit, leave=False) as bar:
        yield Progress(name, total, initial=initial, bar=bar)


def _is_seen() -> bool:
    """Whether a person sees what is drawn: in a terminal or a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    is_notebook = shell is not None and "IPKernelApp" in shell.config
    return is_notebook or (sys.stderr is not None and sys.stderr.isatty())
