"""Packing: the suffix tokens of several prompts side by side, with no padding between them.

Answers have different lengths, so padded suffixes are mostly padding. Everything in a block but
attention works token by token; packed, it runs on the tokens that are there. Attention alone goes
back to one padded row per prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """How the suffix tokens of some rows lie on one token axis, row by row."""

    n_rows: int
    suffix: int
    """Columns of the padded form."""
    n_tokens: int
    offsets: Int[Tensor, " row"]
    """Packed place of each row's first token."""
    cells: Int[Tensor, " token"] | None
    """row * suffix + column of each packed token; None where every row is full."""
    tokens: Int[Tensor, " cell"] | None
    """The packed token in each cell of the padded form; padding repeats its row's last one."""

    @classmethod
    def of(
        cls, lengths: Sequence[int], suffix: int, device: torch.device, *, is_padded: bool = False
    ) -> "Packing":
        """The packing of rows with some lengths.

        Args:
            lengths: Suffix tokens of each row.
            suffix: Columns of the padded form.
            device: Where the indices go.
            is_padded: Keep the padding, so that shapes depend on nothing but the number of rows.
        """
        is_full = is_padded or all(length == suffix for length in lengths)
        kept = [suffix] * len(lengths) if is_full else list(lengths)
        starts = [sum(kept[:row]) for row in range(len(kept))]
        cells = tokens = None
        if not is_full:
            cells = torch.tensor(
                [row * suffix + column for row, n in enumerate(kept) for column in range(n)],
                device=device,
            )
            tokens = torch.tensor(
                [
                    start + min(column, n - 1)
                    for start, n in zip(starts, kept, strict=True)
                    for column in range(suffix)
                ],
                device=device,
            )
        return cls(
            n_rows=len(kept),
            suffix=suffix,
            n_tokens=sum(kept),
            offsets=torch.tensor(starts, device=device),
            cells=cells,
            tokens=tokens,
        )

    def pack(self, padded: Shaped[Tensor, "row suffix ..."]) -> Shaped[Tensor, "token ..."]:
        """From one row per prompt to one token axis."""
        flat = padded.flatten(0, 1)
        return flat if self.cells is None else flat.index_select(0, self.cells.to(flat.device))

    def pad(self, packed: Tensor, dim: int) -> Tensor:
        """The token axis `dim` as two: row and suffix column."""
        if self.tokens is not None:
            packed = packed.index_select(dim, self.tokens.to(packed.device))
        shape = packed.shape
        return packed.reshape(*shape[:dim], self.n_rows, self.suffix, *shape[dim + 1 :])
