"""Vectors of few numbers: trained in random subspaces of the residual stream, and rounded.

A vector of k numbers c is u = √(d/k) B_kᵀ c, with B_k the first k rows of one random orthonormal
basis. The factor makes a step of AdamW as long at every k as in the whole space, so that one
learning rate fits all. At k = d the basis is the stream's own, and training is that of `learned`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_RANGES = 400
"""Ranges that are tried for a rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subspaces:
    """The subspace of each of some vectors; smaller ones lie in larger ones."""

    basis: Float[Tensor, "d_model d_model"]
    """Orthonormal rows; a vector of k numbers uses the first k."""
    sizes: tuple[int, ...]
    """k of each vector."""

    @classmethod
    def random(cls, d_model: int, sizes: Sequence[int], seed: int) -> "Subspaces":
        """Subspaces of a random basis.

        Raises:
            ValueError: A size is not from 1 to the width of the stream.
        """
        wrong = [size for size in sizes if not 1 <= size <= d_model]
        if wrong:
            raise ValueError(f"a subspace has 1 to {d_model} dimensions, not {wrong[0]}")
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
        return cls(basis=torch.linalg.qr(drawn).Q.T.float().contiguous(), sizes=tuple(sizes))

    def to(self, device: torch.device) -> "Subspaces":
        """The same on a device."""
        return Subspaces(basis=self.basis.to(device), sizes=self.sizes)

    def spanned(self, numbers: Float[Tensor, "vector d_model"]) -> Float[Tensor, "vector d_model"]:
        """The vectors of some numbers, of which each vector uses its first k."""
        width = numbers.shape[1]
        sizes = torch.tensor(self.sizes, device=numbers.device).unsqueeze(1)
        used = torch.arange(width, device=numbers.device) < sizes
        factor = (width / sizes).sqrt().to(numbers)
        within = (numbers * used * factor) @ self.basis
        return torch.where(sizes == width, numbers, within)

    def numbers_of(self, vector: Float[Tensor, " d_model"], number: int) -> Float[Tensor, " k"]:
        """The numbers of a vector that lies in the subspace of that number."""
        width, size = len(vector), self.sizes[number]
        if size == width:
            return vector
        found: Tensor = self.basis[:size].to(vector) @ vector / (width / size) ** 0.5
        return found

    def rounded(
        self, vector: Float[Tensor, " d_model"], number: int, bits: int
    ) -> Float[Tensor, " d_model"]:
        """A vector of that subspace with its numbers rounded to some bits each."""
        numbers = vector.new_zeros(len(self.sizes), len(vector))
        own = rounded(self.numbers_of(vector, number), bits)
        numbers[number, : len(own)] = own
        return self.to(vector.device).spanned(numbers)[number]


def rounded(numbers: Float[Tensor, " k"], bits: int) -> Float[Tensor, " k"]:
    """Numbers rounded to 2^bits equally spaced values around 0, over the range that errs least.

    Example:
        >>> rounded(torch.tensor([4.0, -4.0, 2.0, -2.0]), 1)
        tensor([ 3., -3.,  3., -3.])
    """
    largest = float(numbers.abs().max())
    if largest == 0:
        return numbers.clone()
    half = 2 ** (bits - 1)
    # one number at one bit is the middle of a range of twice its size
    steps = torch.linspace(0, 2 * largest, _RANGES + 1, device=numbers.device)[1:] / half
    places = (numbers / steps.unsqueeze(1)).floor().clamp(-half, half - 1) + 0.5
    candidates = places * steps.unsqueeze(1)
    errors = (candidates - numbers).square().sum(dim=1)
    best: Tensor = candidates[int(errors.argmin())]
    return best
