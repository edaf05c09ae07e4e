"""Linear maps and what can be said about them: ridge fits, R², polar decomposition.

Mathematics on tensors alone, in float64: no model, no prompts.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

MAIN = 0.99
"""Share of the squared singular values that the subspace that matters holds."""
_NULL = 1e-10
"""Eigenvalues of the inputs' second moments below this share of the largest count as zero."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeFits:
    """The fits y = W x of one set of samples at any ridge: its eigenvectors are computed once.

    Without intercept. Directions that no sample has get no weight, so the rank of a fit is never
    larger than what was sampled.
    """

    basis: Float[Tensor, "d_model rank"]
    """Orthonormal directions that the inputs span."""
    eigenvalues: Float[Tensor, " rank"]
    """Second moments of the inputs along them."""
    cross: Float[Tensor, "rank d_out"]
    """Second moments of inputs along them with outputs."""

    @classmethod
    def of(
        cls, inputs: Float[Tensor, "sample d_model"], outputs: Float[Tensor, "sample d_out"]
    ) -> "RidgeFits":
        """Prepare the fits of some samples."""
        x, y = inputs.double(), outputs.double()
        values, vectors = torch.linalg.eigh(x.T @ x)
        kept = values > _NULL * values[-1]
        basis = vectors[:, kept]
        return cls(basis=basis, eigenvalues=values[kept], cross=basis.T @ (x.T @ y))

    @property
    def rank(self) -> int:
        """Number of directions that were sampled."""
        return self.basis.shape[1]

    def at(self, ridge: float) -> Float[Tensor, "d_out d_model"]:
        """W for a ridge in units of the inputs' mean second moment along a sampled direction."""
        damped = self.eigenvalues + ridge * self.eigenvalues.mean()
        return (self.basis @ (self.cross / damped.unsqueeze(1))).T


def r_squared(
    predicted: Float[Tensor, "sample d_out"], observed: Float[Tensor, "sample d_out"]
) -> float:
    """Share of the observations' variance over samples that a prediction explains.

    Centred over the samples: what all samples have in common counts for nothing, so a prediction
    that is constant scores 0 at best.

    Example:
        >>> observed = torch.tensor([[1.0], [3.0]])
        >>> r_squared(observed, observed), r_squared(torch.full((2, 1), 2.0), observed)
        (1.0, 0.0)
    """
    y, fitted = observed.double(), predicted.double()
    total = (y - y.mean(dim=0)).square().sum()
    return float(1 - (y - fitted).square().sum() / total)


def slope_r_squared(
    predicted: Float[Tensor, "sample d_out"], observed: Float[Tensor, "sample d_out"]
) -> float:
    """R² of a prediction that is granted any constant.

    Other queries answer a vector with another mean; this says whether they answer its noise alike.

    Example:
        >>> observed = torch.tensor([[1.0], [3.0]])
        >>> r_squared(observed + 10, observed), slope_r_squared(observed + 10, observed)
        (-99.0, 1.0)
    """
    shifted = predicted.double() - predicted.double().mean(dim=0) + observed.double().mean(dim=0)
    return r_squared(shifted, observed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Polar:
    """W as Q Σ on a subspace: a partial isometry, and a stretching before it.

    No completion: Q is zero off the subspace.
    """

    left: Float[Tensor, "d_model rank"]
    singular_values: Float[Tensor, " rank"]
    right: Float[Tensor, "d_model rank"]
    energy: float
    """Share of the whole map's squared singular values that is kept."""

    @property
    def rank(self) -> int:
        """Dimension of the subspace."""
        return len(self.singular_values)

    @cached_property
    def rotation(self) -> Float[Tensor, "d_model d_model"]:
        """Q = U_r V_rᵀ."""
        return self.left @ self.right.T

    @cached_property
    def stretching(self) -> Float[Tensor, "d_model d_model"]:
        """Σ = V_r S_r V_rᵀ."""
        return self.right * self.singular_values @ self.right.T

    @property
    def distance_from_identity(self) -> float:
        """‖U_r - V_r‖_F/√(2r): 0 where nothing turns, 1 where all turn by right angles."""
        return float((self.left - self.right).norm() / (2 * self.rank) ** 0.5)

    @property
    def determinant_sign(self) -> int | None:
        """Of Q; None below full rank, where Q has no determinant."""
        if self.rank < self.left.shape[0]:
            return None
        return int(torch.linalg.slogdet(self.rotation).sign)

    def kept_share(self, vectors: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """‖V_rᵀx‖²/‖x‖²: how much of a vector the map can see."""
        x = vectors.double()
        return (x @ self.right).square().sum(dim=-1) / x.square().sum(dim=-1)

    def turn_cosine(self, vectors: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """cos(V_r V_rᵀ x, Q x)."""
        seen = vectors.double() @ self.right
        return torch.cosine_similarity(seen @ self.right.T, seen @ self.left.T, dim=-1)

    def stretch(self, vectors: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """xᵀΣx/xᵀx."""
        x = vectors.double()
        seen = x @ self.right
        return (seen.square() * self.singular_values).sum(dim=-1) / x.square().sum(dim=-1)


def polar(matrix: Float[Tensor, "d_model d_model"], *, energy: float = 1.0) -> Polar:
    """The polar decomposition of a map, on the subspace that holds a share of its energy.

    Args:
        matrix: W.
        energy: Share of the squared singular values to keep, by the fewest of them. With 1, all
            that are not zero.

    Raises:
        ValueError: The matrix is zero.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169: W = QΣ. We differ: Q is a partial
        isometry on the directions that W was fitted on, and is not completed to a rotation.
    """
    left, values, right = torch.linalg.svd(matrix.double())
    if not float(values[0]):
        raise ValueError("a map that is zero has no polar decomposition; fit it on other samples")
    shares = values.square().cumsum(dim=0) / values.square().sum()
    nonzero = int((values > _NULL**0.5 * values[0]).sum())
    rank = min(nonzero, int((shares < energy).sum()) + 1)
    return Polar(
        left=left[:, :rank],
        singular_values=values[:rank],
        right=right[:rank].T,
        energy=float(shares[rank - 1]),
    )


def off_direction(
    matrix: Float[Tensor, "d_out d_model"], vector: Float[Tensor, " d_model"]
) -> Float[Tensor, "d_out d_model"]:
    """A map with what it does along one vector taken out."""
    unit = (vector / vector.norm()).to(matrix.dtype)
    return matrix - torch.outer(matrix @ unit, unit)


def matrix_cosine(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> float:
    """Cosine of the angle between two maps, or two vectors, as lists of numbers."""
    a, b = left.double().flatten(), right.double().flatten()
    return float((a @ b) / (a.norm() * b.norm()))


def relative_distance(found: Float[Tensor, "..."], reference: Float[Tensor, "..."]) -> float:
    """‖found - reference‖/‖reference‖."""
    return float((found.double() - reference.double()).norm() / reference.double().norm())
