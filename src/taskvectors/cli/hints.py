"""Command lines that the program prints to copy: complete, and quoted for a shell."""

import shlex
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from taskvectors.cli.arguments import ModelChoice

_OF_THE_VECTOR = ("model", "revision")
"""Flags that a vector's own origin stands for."""


def hint(verb: str, *groups: Any, **flags: object) -> str:
    """A command with what differs from the defaults.

    Args:
        verb: Its verb.
        groups: Groups of flags whose values were given, such as a `ModelChoice`.
        flags: Further flags; what is empty is left out.

    Example:
        >>> hint("evaluate", vector="my vectors/capital")
        "taskvectors evaluate --vector 'my vectors/capital'"
    """
    given = dict(flags)
    for group in groups:
        assert is_dataclass(group)
        but = _OF_THE_VECTOR if isinstance(group, ModelChoice) else ()
        given |= {name: getattr(group, name) for name in changed_flags(group, *but)}
    words = ["taskvectors", verb]
    for name, value in given.items():
        if value not in (None, "", (), False):
            words.append(f"--{name.replace('_', '-')}")
            some = value if isinstance(value, list | tuple) else [] if value is True else [value]
            words += map(str, some)
    return shlex.join(words)


def changed_flags(group: Any, *but: str) -> list[str]:
    """Names of a group's flags that are not as they are by default.

    Args:
        group: A group of flags.
        but: Flags that are left out.
    """
    return [one.name for one in fields(group) if one.name not in but and _is_given(group, one.name)]


def _is_given(group: Any, name: str) -> bool:
    default = next(one.default for one in fields(group) if one.name == name)
    return default is MISSING or getattr(group, name) != default
