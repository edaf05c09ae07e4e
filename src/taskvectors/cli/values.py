"""What a flag may be: checked when words are parsed, before anything is loaded.

Every number is finite and fits 64 bits, and no text has a NUL, whatever the flag; what a flag's
name asks beyond that is in one table. What only the library can know, such as the layers that a
model has, it says itself.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from typing import Any

from taskvectors.errors import TaskVectorsError

_LARGEST = 2**63 - 1
"""Of a whole number in a table of results."""
_NUMBER = "(0|[1-9][0-9]{0,8})"
"""A whole number that is written in one way only."""


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
    """A rule of texts, and of numbers as they are written."""
    return Rule(lambda value: bool(re.fullmatch(pattern, str(value))), expected)


RULES = {
    "seed": _SEED,
    "seeds": _SEED,
    **dict.fromkeys(
        ("n_train", "n_validation", "n_test", "max_new_tokens", "limit", "trials"), _COUNT
    ),
    **dict.fromkeys(("shots", "train_shots"), _AMOUNT),
    "port": Rule(lambda value: 1 <= value <= 65535, "a port from 1 to 65535"),
    **dict.fromkeys(("temperature", "flops", "bandwidth"), _POSITIVE),
    "device": _text(r"(cpu|cuda|mps|xpu)(:[0-9]{1,4})?", "cpu, cuda, cuda:1, mps or xpu"),
    "memory": _text(r"(?i)[0-9]{1,15}(\.[0-9]{1,9})? ?[kmgt]?i?b?", "a size such as 4GB or 800MB"),
    "layers": _text(
        rf"embed|{_NUMBER}(-{_NUMBER})?",
        "a layer: a number from 0, a range such as 4-9, or embed for the one below block 0",
    ),
    "positions": _text(
        rf"{_NUMBER}|-[1-9][0-9]{{0,8}}|[a-z]+(_[a-z]+)?(_[0-9]{{1,6}})?",
        "a position: a number, or a name such as last",
    ),
}
"""By the name of a flag's field."""


def check_values(verb: object) -> None:
    """Check the flags of a verb, its groups included.

    Args:
        verb: The dataclass of a verb.

    Raises:
        TaskVectorsError: A value cannot be; the message names the flag.
    """
    names = set(RULES)
    groups = list(_groups(verb))
    is_estimate = any(hasattr(group, "machine") for group in groups)
    if is_estimate:  # it is for any device, which its catalogue knows
        names.remove("device")
    for name, value in _repeated(groups):
        raise TaskVectorsError(f"--{name.replace('_', '-')}: {value!r} is given twice")
    for name, value in (pair for group in groups for pair in _values(group)):
        rule = _fault(value)
        if rule is None and name in names:
            rule = None if RULES[name].accepts(value) else RULES[name]
        if rule is not None:
            flag = f"--{name.replace('_', '-')}"
            raise TaskVectorsError(f"{flag}: {value!r} is not {rule.expected}")
    for group in () if is_estimate else groups:
        _check_machine(group)


def _check_machine(group: object) -> None:
    """Check that a device, its memory and a way to attend are there, before a model is loaded."""
    names = ("device", "memory", "attention")
    device, memory, attention = (getattr(group, name, None) for name in names)
    if (device, memory, attention) == (None, None, None):
        return  # torch need not be imported
    import torch

    from taskvectors.models.options import resolve_attention, resolve_device
    from taskvectors.trunk import resolve_budget

    resolve_attention("", attention)
    found = torch.device(resolve_device(device))
    if memory is not None and not getattr(group, "device_map", None):
        resolve_budget(memory, found)


def _groups(verb: object) -> Iterator[object]:
    """A verb and the groups of flags in it."""
    yield verb
    for field in fields(verb):  # type: ignore[arg-type]
        held = getattr(verb, field.name)
        if is_dataclass(held):
            yield from _groups(held)


def _values(group: object) -> Iterator[tuple[str, Any]]:
    """Each value of a group, with the field that it is of."""
    for field in fields(group):  # type: ignore[arg-type]
        held = getattr(group, field.name)
        for value in held if isinstance(held, tuple) else (held,):
            if value is not None and not is_dataclass(value):
                yield field.name, value


def _repeated(groups: Sequence[object]) -> Iterator[tuple[str, Any]]:
    """Values that stand twice in a list, with the field that they are of."""
    for group in groups:
        for field in fields(group):  # type: ignore[arg-type]
            held = getattr(group, field.name)
            if isinstance(held, tuple):
                yield from ((field.name, v) for n, v in enumerate(held) if v in held[:n])


def _fault(value: Any) -> Rule | None:
    """What a value of its type has to be, where it is not that."""
    if isinstance(value, str) and "\0" in value:
        return Rule(bool, "a text without NUL characters")
    if isinstance(value, str) and not _is_text(value):
        return Rule(bool, "a text: half of a character stands alone in it")
    if isinstance(value, float) and not isfinite(value):
        return Rule(bool, "a finite number")
    if isinstance(value, float) and value and not 1e-37 < abs(value) < 1e38:
        return Rule(bool, "a number that float32 has: 0, or a size from 1e-37 to 1e38")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return Rule(bool, f"a whole number up to {_LARGEST}")
    return None


def _is_text(value: str) -> bool:
    """Whether it can be what was typed; bytes that are no text are held as halves, too."""
    try:
        os.fsencode(value)
    except UnicodeError:
        return False
    return True
