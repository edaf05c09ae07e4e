"""Mini-batches of a trunk: which prompts run, and where their answers are read.

The suffix of a prompt goes on to the last token of its answer but one, so one long answer would
make all rows long. Rows are therefore run in up to three groups of similar length, unless every
step must have the same shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.trunk.cut import Cut

_MOST_GROUPS = 3
_WORTH_SPLITTING = 0.8
"""A further group must leave at most this share of the tokens; each group costs a walk over the
blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rows of a batch that run together."""

    rows: Int[Tensor, " row"] | None
    """Prompts of the trunk; None for all of them in order."""
    n_rows: int
    suffix: int
    """Leading suffix tokens that they need."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some prompts of a trunk, with everything a step needs already on the device.

    Building one may wait for the device; using one does not.
    """

    groups: tuple["Group", ...]
    """The rows, by how many suffix tokens they need; each group runs by itself."""
    order: Int[Tensor, " row"] | None
    """Where each row of the batch is among the groups' rows; None where they are in order."""
    n_rows: int
    n_answer: int
    """Tokens of the longest answer of all prompts of the trunk."""
    suffix: int
    """Suffix tokens of the longest group."""
    prompts: Int[Tensor, " row"]
    """Which prompt of the trunk each row is."""
    reads: Int[Tensor, " read"]
    """Where answer tokens are predicted, as row * suffix + column."""
    targets: Int[Tensor, " read"]
    read_rows: Int[Tensor, " read"]
    read_slots: Int[Tensor, " read"]
    """Which row, and which token of its answer, each read belongs to."""
    weights: Float[Tensor, " read"]
    """1 / answer length: the paper averages the log-probabilities of an answer's tokens."""


def make_batch(cut: Cut, rows: Sequence[int] | None, n_reads: int | None) -> Batch:
    """Index tensors for some prompts; see `Batch` and `Trunk.batch`."""
    chosen = list(range(len(cut.tokens))) if rows is None else list(rows)
    device = cut.tokens.suffix.device
    lengths = [cut.first_reads[prompt] + len(cut.answers[prompt]) for prompt in chosen]
    suffix = int(cut.tokens.suffix.shape[1]) if n_reads is not None else max(lengths)
    parts = [list(range(len(chosen)))] if n_reads is not None else split_by_length(lengths)
    in_order = [row for part in parts for row in part]
    groups = tuple(
        Group(
            rows=None
            if rows is None and len(parts) == 1
            else torch.tensor([chosen[row] for row in part], device=device),
            n_rows=len(part),
            suffix=suffix if n_reads is not None else max(lengths[row] for row in part),
        )
        for part in parts
    )
    reads = [
        (
            row,
            slot,
            row * suffix + cut.first_reads[prompt] + slot,
            token,
            1 / len(cut.answers[prompt]),
        )
        for row, prompt in enumerate(chosen)
        for slot, token in enumerate(cut.answers[prompt])
    ]
    padding = 0 if n_reads is None else n_reads - len(reads)
    if padding < 0:
        raise ValueError(f"n_reads is {n_reads}, but these prompts have {len(reads)} answer tokens")
    reads += [(*reads[0][:4], 0.0)] * padding
    row_of, slot_of, at, targets, weights = zip(*reads, strict=True)
    back = sorted(range(len(chosen)), key=in_order.__getitem__)
    return Batch(
        groups=groups,
        order=None if back == list(range(len(chosen))) else torch.tensor(back, device=device),
        n_rows=len(chosen),
        n_answer=cut.n_answer,
        suffix=suffix,
        prompts=torch.tensor(chosen, device=device),
        reads=torch.tensor(at, device=device),
        targets=torch.tensor(targets, device=device),
        read_rows=torch.tensor(row_of, device=device),
        read_slots=torch.tensor(slot_of, device=device),
        weights=torch.tensor(weights, device=device),
    )


def split_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in up to three groups of similar length, where that saves tokens."""
    groups = [sorted(range(len(lengths)), key=lengths.__getitem__)]
    while len(groups) < _MOST_GROUPS:
        tokens = sum(len(group) * lengths[group[-1]] for group in groups)
        saved, place, cut = max(_best_cut(lengths, group, i) for i, group in enumerate(groups))
        if tokens - saved > _WORTH_SPLITTING * tokens:
            break
        groups[place : place + 1] = [groups[place][:cut], groups[place][cut:]]
    return groups if len(groups) > 1 else [list(range(len(lengths)))]


def _best_cut(lengths: Sequence[int], group: Sequence[int], place: int) -> tuple[int, int, int]:
    """Tokens saved by cutting a group where that saves most; (0, place, 0) if it cannot be cut."""
    longest = lengths[group[-1]]
    cuts = [(i * (longest - lengths[group[i - 1]]), place, i) for i in range(1, len(group))]
    return max(cuts, default=(0, place, 0))
