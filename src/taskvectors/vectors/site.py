"""Sites: where the rows of a vector go."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from taskvectors.models import COMPONENTS, EMBED, Component
from taskvectors.trunk.edits import Position


@dataclass(frozen=True)
class Site:
    """A component of a layer, at a position of the prompt."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    layer: int
    """0-based block; -1 is the layer below block 0."""
    position: Position
    """A token of the prompt (negative from its end), or a name."""
    component: Component = "resid_post"

    def __post_init__(self) -> None:
        lowest = EMBED if self.component == "resid_post" else 0
        if self.component not in COMPONENTS or self.layer < lowest or self.position == "":
            raise ValueError(
                f"there is no site {self!r}: the layer is {lowest} or more, the position a number "
                f"or a name, the component one of {', '.join(COMPONENTS)}"
            )

    def __str__(self) -> str:
        layer = "embed" if self.layer == EMBED else f"layer {self.layer}"
        return f"{self.component} of {layer} at position {self.position}"

    @property
    def place(self) -> tuple[int, Component, Position]:
        """The same for two sites that are one place under two names."""
        position = -1 if self.position == "last" else self.position
        if self.component == "resid_pre":
            return self.layer - 1, "resid_post", position
        return self.layer, self.component, position


def sites_at(
    layers: Iterable[int], positions: Iterable[Position], component: Component = "resid_post"
) -> tuple[Site, ...]:
    """All sites of some layers and positions, layer by layer.

    Example:
        >>> [str(site) for site in sites_at([-1, 9], [-1])]
        ['resid_post of embed at position -1', 'resid_post of layer 9 at position -1']
    """
    positions = tuple(positions)
    return tuple(Site(layer, position, component) for layer in layers for position in positions)
