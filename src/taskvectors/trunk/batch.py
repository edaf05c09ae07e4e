"""Mini-batches of a trunk: which prompts run, and where their answers are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvectors.models.packing import Packing
from taskvectors.trunk.split import PromptSplit


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some prompts of a trunk, with everything a step needs already on the device.

    Building one may wait for the device; using one does not.
    """

    rows: Int[Tensor, " row"] | None
    """Prompts of the trunk; None for all of them in order."""
    packing: Packing
    """How their suffix tokens lie: up to the last one that predicts an answer token."""
    reads: Int[Tensor, " read"]
    """Where answer tokens are predicted, as row * suffix + column."""
    targets: Int[Tensor, " read"]
    read_rows: Int[Tensor, " read"]
    read_slots: Int[Tensor, " read"]
    """Which row, and which token of its answer, each read belongs to."""
    weights: Float[Tensor, " read"]
    """1 / answer length: the paper averages the log-probabilities of an answer's tokens."""
    n_answer: int
    """Tokens of the longest answer of all prompts of the trunk."""

    @property
    def read_prompts(self) -> Int[Tensor, " read"]:
        """Which prompt of the trunk each read belongs to."""
        return self.read_rows if self.rows is None else self.rows[self.read_rows]

    @property
    def is_last_read(self) -> Bool[Tensor, " read"]:
        """Whether a read is of the last token of its answer."""
        last = torch.zeros_like(self.read_rows, dtype=torch.bool)
        last[:-1] = self.read_rows[1:] != self.read_rows[:-1]
        last[-1] = True
        return last

    @property
    def n_rows(self) -> int:
        """How many prompts run."""
        return self.packing.n_rows


def make_batch(cut: PromptSplit, rows: Sequence[int] | None, n_reads: int | None) -> Batch:
    """Index tensors for some prompts; see `Batch` and `Trunk.batch`."""
    chosen = list(range(len(cut.tokens))) if rows is None else list(rows)
    device = cut.tokens.suffix.device
    lengths = [cut.first_reads[prompt] + len(cut.answers[prompt]) for prompt in chosen]
    is_static = n_reads is not None
    suffix = int(cut.tokens.suffix.shape[1]) if is_static else max(lengths)
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
    return Batch(
        rows=None if rows is None else torch.tensor(chosen, device=device),
        packing=Packing.of(lengths, suffix, device, is_padded=is_static),
        reads=torch.tensor(at, device=device),
        targets=torch.tensor(targets, device=device),
        read_rows=torch.tensor(row_of, device=device),
        read_slots=torch.tensor(slot_of, device=device),
        weights=torch.tensor(weights, device=device),
        n_answer=cut.n_answer,
    )
