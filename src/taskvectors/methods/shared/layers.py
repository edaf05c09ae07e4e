"""Layers and positions as people write them, the same in Python and on the command line."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from taskvectors.errors import TaskVectorsError
from taskvectors.models import EMBED, LanguageModel
from taskvectors.models.sites import check_site
from taskvectors.prompts import POSITION_NAMES, is_position_name
from taskvectors.trunk import Position

LayerName = int | Literal["embed"]
_ALIASES: dict[Any, int] = {"embed": EMBED, "last": -1}


def _distinct(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    places = [_ALIASES.get(value, value) for value in values or ()]
    if len(set(places)) != len(places):
        raise ValueError(f"{', '.join(map(str, values or ()))} names a place twice")
    return values


def _several(value: Any) -> Any:
    """One place as a tuple of one."""
    if value is None or isinstance(value, tuple):
        return value
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _numbered(layers: Any) -> Any:
    """Layers as numbers, a range such as `4-9` as all of its layers."""
    if not isinstance(layers, tuple):
        return layers
    found: list[Any] = []
    for layer in layers:
        text = str(layer)
        ends = [int(end) for end in text.split("-")] if _RANGE.fullmatch(text) else []
        if text != "embed" and (not ends or ends != sorted(ends) or isinstance(layer, bool)):
            raise ValueError(
                f"{layer!r} is no layer; give numbers from 0 up, ranges such as 4-9, or embed for "
                "the one below block 0"
            )
        found += range(ends[0], ends[-1] + 1) if ends else [layer]
    return tuple(found)


_RANGE = re.compile("[0-9]{1,6}(-[0-9]{1,6})?")


def _placed(positions: Any) -> Any:
    """Positions with numbers as such; a name has to be one that prompts can have."""
    if not isinstance(positions, tuple):
        return positions
    found = tuple(
        int(place) if isinstance(place, str) and _NUMBER.fullmatch(place) else place
        for place in positions
    )
    for place in found:
        if isinstance(place, bool) or not (isinstance(place, int) or is_position_name(str(place))):
            raise ValueError(
                f"{place!r} is no position; give a number, negative from the prompt's end, or one "
                f"of {', '.join(POSITION_NAMES)}"
            )
    return found


_NUMBER = re.compile("-?[0-9]{1,9}")

Layers = Annotated[
    tuple[LayerName, ...] | None,
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_numbered),
    BeforeValidator(_several),
]
"""Layers of a vector, each once: a number, `embed`, a range, or several of them; None for one
vector at every layer."""
Positions = Annotated[
    tuple[Position, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_placed),
    BeforeValidator(_several),
]
"""Token positions, each once."""


def layer_groups(
    model: LanguageModel, layers: LayerName | Sequence[LayerName] | None, *, each_layer: bool
) -> list[list[int]]:
    """The layers of each vector that is asked for, as numbers.

    Args:
        model: The model.
        layers: Layers; all blocks of the model, one vector for each, by default.
        each_layer: One vector for each of the layers, in place of one at all of them.

    Raises:
        TaskVectorsError: What is given is no layer.
        UnsupportedModelError: The model has no such layer.
    """
    if layers is None:
        return [[layer] for layer in range(model.n_layers)]
    try:
        named = _numbered(_several(layers))
    except ValueError as error:
        raise TaskVectorsError(f"layers: {error}") from error
    chosen = [EMBED if layer == "embed" else layer for layer in named]
    for layer in chosen:
        check_site(model, layer, "resid_post")
    return [[layer] for layer in chosen] if each_layer else [chosen]


def layer_name(layer: int) -> LayerName:
    """A layer as people write it."""
    return "embed" if layer == EMBED else layer
