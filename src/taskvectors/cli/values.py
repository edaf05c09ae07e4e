"""What a flag may be: checked when words are parsed, before anything is loaded.

Every number is finite and fits 64 bits, and no text has a NUL, whatever the flag; what a flag's
name asks beyond that is in one table. What only the library can know, such as the layers that a
model has, it says itself.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from typing import Any

from taskvectors.errors import TaskVectorsError

_LARGEST = 2**63 - 1
"""Of a whole number in a table of results."""


@dataclass(frozen=True)
class Rule:
    """What a value has to be."""

    accepts: Callable[[Any], bool]
    expected: str
    """In words."""


_COUNT = Rule(lambda value: value >= 1, "a whole number from 1")
_AMOUNT = Rule(lambda value: value >= 0, "a whole number from 0")
_SEED = Rule(lambda value: 0 <= value <= _LARGEST, f"a whole number from 0 to {_LARGEST}")
_POSITIVE = Rule(lambda value: value > 0, "a number above 0")


def _text(pattern: str, expected: str) -> Rule:
    return Rule(re.compile(pattern).fullmatch, expected)  # type: ignore[arg-type]


RULES = {
    "seed": _SEED,
    "seeds": _SEED,
    **dict.fromkeys(("n_train", "n_validation", "n_test", "max_new_tokens", "limit"), _COUNT),
    **dict.fromkeys(("shots", "train_shots"), _AMOUNT),
    **dict.fromkeys(("temperature", "flops", "bandwidth"), _POSITIVE),
    "device": _text(r"(cpu|cuda|mps|xpu)(:[0-9]{1,4})?", "cpu, cuda, cuda:1, mps or xpu"),
    "memory": _text(r"(?i)[0-9]{1,15}(\.[0-9]{1,9})? ?[kmgt]?i?b?", "a size such as 4GB or 800MB"),
    "layers": _text(
        r"embed|[0-9]{1,6}(-[0-9]{1,6})?",
        "a layer: a number from 0, a range such as 4-9, or embed for the one below block 0",
    ),
    "positions": _text(
        r"-?[0-9]{1,9}|[a-z]+(_[a-z]+)?(_[0-9]{1,6})?",
        "a position: a number, or a name such as last",
    ),
}
"""By the name of a flag's field."""
_OTHERS = {("Estimate", "device"), ("Train", "layers")}
"""Fields whose name means something else there."""


def check_values(verb: object) -> None:
    """Check the flags of a verb, its groups included.

    Args:
        verb: The dataclass of a verb.

    Raises:
        TaskVectorsError: A value cannot be; the message names the flag.
    """
    for owner, name, value in _values(verb):
        rule = _fault(value)
        if rule is None and (owner, name) not in _OTHERS and name in RULES:
            rule = None if RULES[name].accepts(value) else RULES[name]
        if rule is not None:
            flag = f"--{name.replace('_', '-')}"
            raise TaskVectorsError(f"{flag}: {value!r} is not {rule.expected}")


def _values(verb: object) -> Iterator[tuple[str, str, Any]]:
    """Each value of a verb, with the class and the field that it is of."""
    for field in fields(verb):  # type: ignore[arg-type]
        held = getattr(verb, field.name)
        if is_dataclass(held):
            yield from _values(held)
            continue
        for value in held if isinstance(held, tuple) else (held,):
            if value is not None:
                yield type(verb).__name__, field.name, value


def _fault(value: Any) -> Rule | None:
    """What a value of its type has to be, where it is not that."""
    if isinstance(value, str) and "\0" in value:
        return Rule(bool, "a text without NUL characters")
    if isinstance(value, float) and not isfinite(value):
        return Rule(bool, "a finite number")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return Rule(bool, f"a whole number up to {_LARGEST}")
    return None
