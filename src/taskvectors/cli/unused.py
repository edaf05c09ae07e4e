"""Options that were given though nothing would read them: refused, with the reason."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from taskvectors.errors import TaskVectorsError

_READ_AS = {
    "recipe": ("recipe", "steps"),
    "steps": ("recipe", "steps"),
    "batch_size": ("recipe", "batch_size"),
    "learning_rate": ("recipe", "learning_rate", "learning_rates"),
    "distillation": ("recipe",),
    "tracker": ("recipe", "steps"),
    "library": ("folder",),
}
"""Flags, and the fields of methods' configs by which they are read, where the names differ."""
PLACES = ("layers", "each_layer", "positions", "train_shots")
"""Flags of what the paper's configurations say themselves."""


def given(group: object, *names: str) -> list[str]:
    """Fields of a verb, or of a group of its flags, whose value is not the default one.

    Args:
        group: The verb or the group.
        names: Only these fields; all by default.
    """
    return [
        field.name
        for field in fields(group)  # type: ignore[arg-type]
        if (not names or field.name in names) and getattr(group, field.name) != field.default
    ]


def refuse(names: Iterable[str], reason: str) -> None:
    """Refuse options that would change nothing.

    Args:
        names: Their fields; nothing happens where there are none.
        reason: Why they would not.

    Raises:
        TaskVectorsError: There is one.
    """
    for name in names:
        flag = f"--{name.replace('_', '-')}"
        raise TaskVectorsError(f"{flag} would change nothing: {reason}; leave {flag} out")


def reads(method: str, name: str, recipe: str = "", *, own_places: bool = True) -> bool:
    """Whether a method reads an option.

    Args:
        method: The method's name.
        name: The option's field.
        recipe: What --recipe says: names are of the methods whose settings were published.
        own_places: Whether the method's places are those of the options.
    """
    from taskvectors.methods import METHODS
    from taskvectors.methods.training.recipe import RECIPES

    kind: Any = METHODS[method].config
    known = set(kind.model_fields)
    if name == "recipe" and recipe in RECIPES:
        return bool(getattr(kind, "has_named_recipes", False))
    if name in PLACES and not own_places and {"layers", "positions"} <= known:
        return False
    return not known.isdisjoint(_READ_AS.get(name, (name,)))
