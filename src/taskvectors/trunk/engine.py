"""The trunk of some prompts, and branches of it.

An edit at (layer l, position p) changes nothing before position p and nothing up to layer l. That
part, the trunk, is computed once: the keys and values of the earlier positions, and the residual
stream of the later ones below every block. A branch runs the blocks above its first edit for the
later positions only. Branches of one prompt run side by side and do not see each other; each joins
where it first differs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import PositionError
from taskvectors.models.attention import branching
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.recording import LayerRecord, Recording, record
from taskvectors.models.replay import Selection, replay_block
from taskvectors.models.sites import Component, Rewrite
from taskvectors.models.unembedding import SoftTargets
from taskvectors.prompts import Prompt
from taskvectors.trunk.answers import AnswerScores, answer_losses, answer_scores, answer_states
from taskvectors.trunk.batch import Batch, make_batch
from taskvectors.trunk.edits import (
    Branch,
    Edit,
    Operation,
    Position,
    check_edit,
    earliest_layer,
    start_layer,
    turned,
)
from taskvectors.trunk.joining import join_recordings
from taskvectors.trunk.split import Columns, PromptSplit, cut_prompts


@dataclass(kw_only=True, eq=False)
class Trunk:
    """The shared part of the forward passes of some prompts."""

    model: LanguageModel
    cut: PromptSplit
    recording: Recording
    _columns: dict[tuple[Position, ...], Columns] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        *,
        positions: Sequence[Position] = (-1,),
        sites: Sequence[tuple[int, Component]] = (),
        rows_per_pass: int | None = None,
    ) -> "Trunk":
        """Run the prompts once, cut before the first of some positions.

        Args:
            model: The model.
            prompts: Prompts with their answers; any lengths.
            positions: Positions that branches will edit or read.
            sites: Further sites to read at the suffix, e.g. `(3, "z")`.
            rows_per_pass: Prompts per forward pass; all at once by default.
        """
        cut = cut_prompts(prompts, positions, device=model.device)
        step = rows_per_pass or len(prompts)
        parts = [
            record(model, cut.tokens.rows(start, start + step), sites=sites)
            for start in range(0, len(prompts), step)
        ]
        return cls(model=model, cut=cut, recording=join_recordings(parts))

    @property
    def n_prompts(self) -> int:
        """How many prompts the trunk holds."""
        return len(self.cut.tokens)

    @property
    def suffix(self) -> int:
        """Tokens per branch."""
        return int(self.cut.tokens.suffix.shape[1])

    @property
    def bytes_held(self) -> int:
        """Memory of everything the trunk keeps."""
        held = {id(t): t for layer in self.recording.layers for t in _tensors(layer)}
        held |= {id(t): t for t in (self.recording.final, *self.recording.sites.values())}
        return sum(t.numel() * t.element_size() for t in held.values())

    def columns(self, positions: tuple[Position, ...]) -> Columns:
        """Suffix columns of some positions, resolved once per trunk."""
        if positions not in self._columns:
            self._columns[positions] = self.cut.columns(positions)
        return self._columns[positions]

    def states(
        self, layer: int, positions: tuple[Position, ...] = (-1,)
    ) -> Float[Tensor, "prompt position d_model"]:
        """Plain `resid_post` of a layer at some positions that every prompt has."""
        return self._at(self.recording.residual(layer), positions)

    def read(
        self, layer: int, component: Component, positions: tuple[Position, ...] = (-1,)
    ) -> Float[Tensor, "prompt position width"]:
        """What was recorded at a further site (named when the trunk was built)."""
        return self._at(self.recording.sites[layer, component], positions)

    def _at(self, state: Tensor, positions: tuple[Position, ...]) -> Tensor:
        columns = self.columns(positions).index
        return state.gather(1, columns.unsqueeze(-1).expand(-1, -1, state.shape[-1]))

    def batch(self, rows: Sequence[int] | None = None, *, n_reads: int | None = None) -> Batch:
        """A mini-batch by index.

        Args:
            rows: Prompts of the trunk; all by default.
            n_reads: Give every step the same shapes, as a captured graph needs: keep the padding
                of the suffixes, and pad the answer tokens to this many.
        """
        return make_batch(self.cut, rows, n_reads)

    def run(
        self, branches: Sequence[Branch], batch: Batch | None = None
    ) -> Float[Tensor, "row branch suffix d_model"]:
        """`resid_post` of the last block for every branch; differentiable in the edits' values.

        Args:
            branches: What each branch changes.
            batch: Prompts to run; all by default.
        """
        for branch in branches:
            for edit in branch:
                check_edit(self.model, edit)
        batch = self.batch() if batch is None else batch
        model = self.model
        selection = Selection(recording=self.recording, rows=batch.rows, packing=batch.packing)
        joins = [start_layer(branch, model.n_layers) for branch in branches]
        order = sorted(range(len(branches)), key=joins.__getitem__)
        plan = _Plan(
            trunk=self,
            batch=batch,
            edits=[(slot, edit) for slot, index in enumerate(order) for edit in branches[index]],
        )
        state = torch.empty(0)
        n_active = 0
        with branching(model.attention_configs):
            for layer in range(earliest_layer(branches, model.n_layers), model.n_layers):
                if n_active:
                    state = replay_block(
                        model,
                        layer,
                        selection,
                        state,
                        n_branches=n_active,
                        rewrites=plan.inside(layer),
                    )
                joining = sum(join == layer for join in joins)
                if joining:
                    start = selection.packed(self.recording.residual(layer))
                    new = start.repeat(joining, 1).unsqueeze(0)
                    state = torch.cat([state.to(new.device), new], dim=1) if n_active else new
                    n_active += joining
                if n_active:
                    state = plan.between(layer, state)
        by_branch = state.view(len(branches), batch.packing.n_tokens, -1)
        padded = batch.packing.pad(by_branch, dim=1).transpose(0, 1)
        if order == list(range(len(order))):
            return padded
        return padded[:, sorted(range(len(order)), key=order.__getitem__)]

    def answer_states(
        self, states: Float[Tensor, "row branch suffix d_model"], batch: Batch
    ) -> Float[Tensor, "read branch d_model"]:
        """The states that predict the answers' tokens."""
        return answer_states(states, batch)

    def answer_losses(
        self,
        states: Float[Tensor, "row branch suffix d_model"],
        batch: Batch,
        soft: SoftTargets | None = None,
    ) -> Float[Tensor, " branch"]:
        """Negative log-probability, averaged over an answer's tokens and over prompts."""
        return answer_losses(self.model, states, batch, soft)

    def answer_scores(
        self,
        states: Float[Tensor, "row branch suffix d_model"],
        batch: Batch,
        *,
        first_bias: Float[Tensor, " d_vocab"] | None = None,
    ) -> AnswerScores:
        """Log-probabilities of the answers' tokens and the arg-max at each; see `answers.py`."""
        return answer_scores(self.model, states, batch, first_bias=first_bias)

    def tokens_run(self, branches: Sequence[Branch]) -> int:
        """Tokens that trunk and branches cost; through half of the blocks counts as half."""
        lengths = self.cut.tokens.prefix_lengths.sum() + self.cut.tokens.suffix_lengths.sum()
        reads = sum(len(a) + f for a, f in zip(self.cut.answers, self.cut.first_reads, strict=True))
        share = sum(
            1 - (start_layer(b, self.model.n_layers) + 1) / self.model.n_layers for b in branches
        )
        return int(lengths) + round(reads * share)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """The edits of one run, grouped by where they are made."""

    trunk: Trunk
    batch: Batch
    edits: Sequence[tuple[int, Edit]]
    """(branch slot on the token axis, edit)."""

    def between(self, layer: int, state: Tensor) -> Tensor:
        """Make the edits on the residual stream after a block."""
        chosen = [(slot, edit) for slot, edit in self.edits if edit.site == (layer, "resid_post")]
        return self._apply(chosen, state) if chosen else state

    def inside(self, layer: int) -> list[tuple[Component, Rewrite]]:
        """The edits within a block, as rewrites of its sites."""
        found: dict[Component, list[tuple[int, Edit]]] = {}
        for slot, edit in self.edits:
            at, component = edit.site
            if at == layer and component != "resid_post":
                found.setdefault(component, []).append((slot, edit))
        return [(component, partial(self._apply, chosen)) for component, chosen in found.items()]

    def _apply(self, chosen: Sequence[tuple[int, Edit]], state: Tensor) -> Tensor:
        # in the order given; edits of one kind that follow each other are one kernel, but a branch
        # that writes to a site again does so in the next: of two values there the later one stays;
        # and a turn depends on what is there, which the edit before may have changed
        for (operation, is_one_head, _), group in groupby(chosen, key=_Rounds()):
            edits = list(group)
            for part in [[one] for one in edits] if operation == "turn" else [edits]:
                state = self._scatter(part, state, is_one_head=is_one_head)
        return state

    def _scatter(
        self, group: Sequence[tuple[int, Edit]], state: Tensor, *, is_one_head: bool
    ) -> Tensor:
        """Make edits with the same operation: one kernel for all of them."""
        n_heads = self.trunk.model.heads(group[0][1].layer).n_heads if is_one_head else 1
        flat = state.reshape(-1, state.shape[2] // n_heads)
        packing = self.batch.packing
        offsets = packing.offsets.unsqueeze(1)
        index, source = [], []
        for slot, edit in group:
            at_all = self.trunk.columns(edit.positions)
            if edit.operation == "replace":
                at_all.check_distinct(edit.positions)
            columns = at_all.select(self.batch.rows)
            token = slot * packing.n_tokens + offsets + columns.index
            place = token * n_heads + (edit.head or 0)
            index.append(place.flatten())
            given = edit.value
            if callable(given):
                given = given(flat[place.to(flat.device)])
            elif given.dim() == 3 and self.batch.rows is not None:
                given = given.index_select(0, self.batch.rows.to(given.device))
            source.append(self._source(edit, given, columns, state).flatten(0, 1))
        at, values = torch.cat(index).to(flat.device), torch.cat(source)
        operation = group[0][1].operation
        if operation == "add":
            return flat.index_add(0, at, values).view(state.shape)
        if operation == "turn":  # one edit alone
            values = turned(flat.index_select(0, at), values)
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
            # turned by nothing, a state stays as it is
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


def _tensors(layer: LayerRecord) -> list[Tensor]:
    values = [layer.entered, layer.keys, layer.values, layer.mask, *layer.arguments.values()]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in flat if isinstance(part, Tensor)]
