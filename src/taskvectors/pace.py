"""How long work will roughly take, from how long work like it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskvectors.prompts import Prompt


@dataclass(kw_only=True)
class Pace:
    """Tokens per second of plain runs so far."""

    tokens: int = 0
    seconds: float = 0.0

    def saw(self, tokens: int, seconds: float) -> None:
        """Count a plain run."""
        self.tokens += tokens
        self.seconds += seconds

    def of(self, tokens: int) -> str:
        """What running some tokens will take, in words; nothing where no run was seen yet."""
        return roughly(self.seconds / self.tokens * tokens) if self.tokens else ""


def n_tokens(prompts: Sequence[Prompt]) -> int:
    """Tokens that a plain run of some prompts with their answers takes."""
    return sum(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)


def still_to_come(seconds: float, done: int, total: int) -> str:
    """How long the rest will take, as the end of a sentence; nothing where all is done.

    Args:
        seconds: What the part that is done took.
        done: Parts that are done, at least 1.
        total: Parts of the whole.

    Example:
        >>> still_to_come(60, 2, 6), still_to_come(60, 6, 6)
        (', about 2 min left', '')
    """
    return f", {roughly(seconds / done * (total - done))} left" if done < total else ""


def roughly(seconds: float) -> str:
    """A time for people who wait.

    Example:
        >>> [roughly(s) for s in (0.4, 14, 95, 4000)]
        ['a few seconds', 'about 10 s', 'about 2 min', 'about 1 h 10 min']
    """
    if seconds < 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1) if seconds >= 10 else seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(round(minutes, -1), 60)
    return f"about {hours} h {minutes} min"
