"""Making the edits of all branches at one site in as few kernels as their order allows."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from taskvectors.errors import PositionError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.runs import Site, TokenIndex
from taskvectors.models.sites import Component
from taskvectors.trunk.edits import Edit, Operation, Position, rotated
from taskvectors.trunk.split import Columns


@dataclass(frozen=True, kw_only=True, eq=False)
class EditedBranches:
    """The edits of some branches, grouped by where they are made."""

    model: LanguageModel
    columns: Callable[[tuple[Position, ...]], Columns]
    """Suffix columns of some positions, of all prompts."""
    edits: Sequence[tuple[int, Edit]]
    """(branch, edit); branches by their order in the run."""

    def at(self, layer: int) -> tuple[Component, ...]:
        """The components of a layer that some branch edits."""
        sites = (edit.site for _, edit in self.edits)
        return tuple(dict.fromkeys(component for at, component in sites if at == layer))

    def apply(self, site: Site, state: Tensor, index: TokenIndex) -> Tensor:
        """What a site holds after the edits of it."""
        chosen = [(slot, edit) for slot, edit in self.edits if edit.site == site]
        # in the order given; edits of one kind that follow each other are one kernel, but a branch
        # that writes to a site again does so in the next: of two values there the later one stays;
        # and a rotation depends on what is there, which the edit before may have changed
        for (operation, is_one_head, _), group in groupby(chosen, key=_Rounds()):
            edits = list(group)
            for part in [[one] for one in edits] if operation == "rotate" else [edits]:
                state = self._scatter(part, state, index, is_one_head=is_one_head)
        return state

    def _scatter(
        self,
        group: Sequence[tuple[int, Edit]],
        state: Tensor,
        index: TokenIndex,
        *,
        is_one_head: bool,
    ) -> Tensor:
        """Make edits with the same operation: one kernel for all of them."""
        n_heads = self.model.heads(group[0][1].layer).n_heads if is_one_head else 1
        flat = state.reshape(-1, state.shape[-1] // n_heads)
        places, source = [], []
        for slot, edit in group:
            at_all = self.columns(edit.positions)
            if edit.operation == "replace":
                at_all.check_distinct(edit.positions)
            columns = at_all.select(index.rows)
            token = slot * index.n_tokens + index.offsets.unsqueeze(1) + columns.index
            place = token * n_heads + (edit.head or 0)
            places.append(place.flatten())
            given = edit.value
            if callable(given):
                given = given(flat[place.to(flat.device)])
            elif given.dim() == 3 and index.rows is not None:
                given = given.index_select(0, index.rows.to(given.device))
            source.append(self._source(edit, given, columns, state).flatten(0, 1))
        at, values = torch.cat(places).to(flat.device), torch.cat(source)
        operation = group[0][1].operation
        if operation == "add":
            return flat.index_add(0, at, values).view(state.shape)
        if operation == "rotate":  # one edit alone
            values = rotated(flat.index_select(0, at), values)
            if columns.present is not None:  # a token has one gradient, however often it is written
                present = columns.present.flatten().unsqueeze(1).to(values.device)
                values = torch.where(present, values, values.detach())
        return flat.index_copy(0, at, values).view(state.shape)

    def _source(self, edit: Edit, given: Tensor, columns: Columns, state: Tensor) -> Tensor:
        """An edit's value as `[row, position, width]`, in the state's type."""
        n_rows, n_positions = columns.index.shape
        value = given.to(device=state.device, dtype=state.dtype)
        if value.dim() < 3:
            value = value.view(1, -1, value.shape[-1])
        value = value.expand(n_rows, n_positions, -1)
        if columns.present is None:
            return value
        # absent positions point at one that is present: they add nothing, or do there what it does
        keep = columns.present.unsqueeze(-1).to(value.device)
        absent = torch.zeros_like(value)
        if edit.operation != "add":
            has_any = keep.any(dim=1, keepdim=True)
            if edit.operation == "replace" and columns.has_empty:
                raise PositionError(
                    f"a prompt has no token at {', '.join(map(str, edit.positions))} to replace: "
                    "its answer is one token, and nothing is read after it"
                )
            # rotated by nothing, a state stays as it is
            absent = torch.where(has_any, value[:, :1].detach(), absent)
        return torch.where(keep, value, absent)


class _Rounds:
    """A key by which edits that may be made at once are alike: operation, head or not, round."""

    def __init__(self) -> None:
        self.written: Counter[tuple[int, int | None]] = Counter()

    def __call__(self, at: tuple[int, Edit]) -> tuple[Operation, bool, int]:
        """The round of a slot's edit; rounds of a site follow each other."""
        slot, edit = at
        if callable(edit.value):  # has to see the edits before it
            return edit.operation, edit.head is not None, id(edit)
        if edit.operation == "add":
            return edit.operation, edit.head is not None, 0
        self.written[slot, edit.head] += 1
        return edit.operation, edit.head is not None, self.written[slot, edit.head]
