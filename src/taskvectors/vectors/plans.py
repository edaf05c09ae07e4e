"""From vectors to what is done in one call: which value goes to which token.

The edits of all vectors of an injection are grouped by where in the model they are made, so that
each place is one indexed sum or write, however many positions and vectors there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.errors import PositionError, TaskVectorsError
from taskvectors.models import Component
from taskvectors.trunk.edits import Edit, Operation
from taskvectors.vectors.places import Layout
from taskvectors.vectors.site import Site

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """All that is done at one place of the model, of one kind."""

    layer: int
    component: Component
    operation: Operation
    owners: tuple[int, ...]
    """For each entry, the vector that it belongs to."""
    sites: tuple[Site, ...]
    """For each entry, where it was asked for."""
    values: Float[Tensor, "entry width"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Where the entries of a group go in one call."""

    rows: Int[Tensor, " token"]
    columns: Int[Tensor, " token"]
    entries: Int[Tensor, " token"]
    reached: frozenset[int]
    """The entries that go anywhere."""

    def to(self, device: torch.device) -> "Placed":
        """The same on a device."""
        return Placed(
            rows=self.rows.to(device),
            columns=self.columns.to(device),
            entries=self.entries.to(device),
            reached=self.reached,
        )


def group_edits(edits_of: Sequence[Sequence[Edit]]) -> tuple[Group, ...]:
    """The edits of some vectors, by place and operation.

    From the lowest layer up: `resid_mid` remembers what its block was given, so that has to be
    edited already.
    """
    entries: dict[tuple[int, Component, Operation], list[tuple[int, Site, Tensor]]] = {}
    for owner, edits in enumerate(edits_of):
        for edit in edits:
            group = entries.setdefault((*edit.site, edit.operation), [])
            for position, value in zip(edit.positions, edit.held, strict=True):
                group.append((owner, Site(edit.layer, position, edit.component), value))
    return tuple(
        Group(
            layer=key[0],
            component=key[1],
            operation=key[2],
            owners=tuple(owner for owner, _, _ in entries[key]),
            sites=tuple(site for _, site, _ in entries[key]),
            values=torch.stack([value.cpu().float() for _, _, value in entries[key]]),
        )
        for key in sorted(entries, key=lambda key: key[0])
    )


def place_groups(
    groups: Sequence[Group], owners: Sequence[int | None] | None, layout: Layout
) -> dict[int, Placed]:
    """Where each group goes in a call; groups that go nowhere are left out.

    Args:
        groups: What is to be done.
        owners: For each item of the batch the number of its vector or None; None itself where the
            vector with number 0 is for all.
        layout: Of the call.

    Raises:
        PositionError: A prompt is too short, or one token would be replaced or rotated twice.
    """
    if owners is None:
        rows_of: Mapping[int, Tensor] = {0: torch.arange(layout.n_rows)}
    else:
        by_row = per_row(owners, layout.n_rows)
        rows_of = {
            owner: torch.tensor([row for row, has in enumerate(by_row) if has == owner])
            for owner in {owner for owner in owners if owner is not None}
        }
    placed = {number: _place(group, rows_of, layout) for number, group in enumerate(groups)}
    return {number: at for number, at in placed.items() if at.reached}


def per_row(items: Sequence[_Item], n_rows: int) -> list[_Item]:
    """Items by row, where each may have become several rows that lie together.

    Raises:
        TaskVectorsError: The rows are not a multiple of the items.
    """
    if not items or n_rows % len(items):
        raise TaskVectorsError(
            f"a call has {n_rows} rows, and inject was given vectors or prompts for {len(items)}; "
            "give one per row of the batch (beams and num_return_sequences apart)"
        )
    times = n_rows // len(items)
    return [item for item in items for _ in range(times)]


def _place(group: Group, rows_of: Mapping[int, Tensor], layout: Layout) -> Placed:
    found = [
        layout.find(site.position, rows_of[owner])
        for owner, site in zip(group.owners, group.sites, strict=True)
    ]
    counts = [len(places.rows) for places in found]
    placed = Placed(
        rows=torch.cat([places.rows for places in found]),
        columns=torch.cat([places.columns for places in found]),
        entries=torch.arange(len(found)).repeat_interleave(torch.tensor(counts)),
        reached=frozenset(entry for entry, count in enumerate(counts) if count),
    )
    if group.operation != "add":
        tokens = (placed.rows * layout.n_columns + placed.columns).sort().values
        twice = tokens[1:][tokens.diff() == 0]
        if len(twice):
            raise PositionError(
                f"two sites of a vector that does not add ({group.operation}) are one token in row "
                f"{int(twice[0]) // layout.n_columns} ({', '.join(map(str, group.sites))}); name "
                "each token once"
            )
    return placed
