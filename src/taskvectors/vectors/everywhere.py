"""Vectors that act at every token: what most other systems can hold, one direction per layer."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.prompts.prompt import PAST_THE_PROMPT
from taskvectors.vectors.site import sites_at
from taskvectors.vectors.task_vector import TaskVector

EVERY_TOKEN = frozenset({"all", "generated"})
"""Positions of a vector that acts at every token of prompt and answer."""


def acts_everywhere(vector: TaskVector) -> bool:
    """Whether a vector acts at every token of prompt and answer, at each of its layers."""
    of_layer: dict[int, set[object]] = {}
    for site in vector.sites:
        of_layer.setdefault(site.place[0], set()).add(site.position)
    return all(positions == EVERY_TOKEN for positions in of_layer.values())


def on_the_prompt(vector: TaskVector) -> TaskVector | None:
    """What a call that brings a prompt alone sees of a vector; None where that is nothing."""
    rows = [n for n, site in enumerate(vector.sites) if site.position not in PAST_THE_PROMPT]
    if not rows:
        return None
    sites = tuple(vector.sites[row] for row in rows)
    return replace(vector, values=vector.values[rows], sites=sites)


def directions_of(
    vector: TaskVector, target: str, *, lowest: int = 0
) -> dict[int, Float[Tensor, " d_model"]]:
    """One direction per block, whatever the positions.

    Args:
        vector: The vector.
        target: What is made of it, for messages, such as `a control vector`.
        lowest: The lowest block that the target can add to.

    Raises:
        TaskVectorsError: The vector does something else than adding one to blocks' outputs.
    """
    if vector.operation != "add":
        raise TaskVectorsError(
            f"{vector.origin.label} does not add ({vector.operation}), and {target} only adds; "
            "make one that is added"
        )
    found: dict[int, Tensor] = {}
    for site, value in zip(vector.sites, vector.values, strict=True):
        layer, component, _ = site.place
        if component != "resid_post" or layer < lowest:
            raise TaskVectorsError(
                f"{vector.origin.label} has {site}, and {target} is added to what blocks {lowest} "
                "and up put out. Make one at other layers"
            )
        if layer in found and not torch.equal(found[layer], value):
            raise TaskVectorsError(
                f"{vector.origin.label} has several different values at layer {layer}, and "
                f"{target} has one per layer; make one with a single position"
            )
        found[layer] = value
    return found


def directions_everywhere(vector: TaskVector, target: str) -> dict[int, Float[Tensor, " d_model"]]:
    """One direction per block of a vector that acts at every token.

    Args:
        vector: The vector.
        target: What is made of it, for messages.

    Raises:
        TaskVectorsError: It acts at some tokens only, or as `directions_of`.
    """
    found = directions_of(vector, target)
    if not acts_everywhere(vector):
        places = ", ".join(map(str, vector.positions))
        raise TaskVectorsError(
            f"{vector.origin.label} acts at {places} only, and {target} acts at every token of "
            "prompt and answer: it would be another vector, with other results. Put it there all "
            "the same with everywhere(vector) (--force), and measure that one"
        )
    return found


def everywhere(vector: TaskVector) -> TaskVector:
    """The direction of each layer at every token of prompt and answer: another vector.

    Args:
        vector: A vector that is added after blocks, with one value per layer.

    Raises:
        TaskVectorsError: As `directions_of`.
    """
    found = directions_of(vector, "a vector at every token")
    sites = sites_at(found, sorted(EVERY_TOKEN))
    places = ", ".join(map(str, vector.positions))
    return replace(
        vector,
        values=torch.stack([found[site.layer] for site in sites]),
        sites=sites,
        origin=vector.origin.changed(f"made at {places}, put at every token"),
    )
