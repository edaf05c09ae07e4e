"""W of one layer: the linear map from what is added there to the change at the last block.

The map is fitted to noisy copies of the vector, in as many directions as the samples can bear, and
its noise and ridge are chosen on validation queries and fresh noise. The same fit around a random
vector is the control: part of what a map looks like is the model's doing and not the vector's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.explain.shared.linear_map import RidgeFits, slope_r_squared
from taskvectors.explain.shared.responses import Responses
from taskvectors.methods.shared.run_context import Split
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class FitSettings(BaseModel):
    """How maps are fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    n_queries: int = Field(default=8, ge=1)
    """Queries of each split: training ones for the fit, validation for its choices, test for R²."""
    samples_per_direction: int = Field(default=4, ge=2)
    """Noisy copies for each direction that the noise has."""
    most_directions: int | None = Field(default=None, ge=2)
    """Directions of the noise, the vector's among them; all of the residual stream by default."""
    scales: tuple[float, ...] = Field(default=(0.25, 1.0), min_length=1)
    """Lengths of the noise to try, in units of the vector's."""
    ridges: tuple[float, ...] = Field(default=(1e-6, 1e-4, 1e-2), min_length=1)
    """Ridges to try, in units of the inputs' mean second moment."""
    n_held_out: int = Field(default=128, ge=2)
    """Noisy copies that are held out, for each scale and purpose."""
    seed: int = 0
    """Of the noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedMap:
    """W at one layer, with what it was fitted on."""

    layer: int
    vector: Float[Tensor, " d_model"]
    """θ."""
    matrix: Float[Tensor, "d_model d_model"]
    """W, float64; zero off the sampled span."""
    span: Float[Tensor, "rank d_model"]
    """Orthonormal directions that the noise has."""
    noise_scale: float
    ridge: float
    n_samples: int

    @property
    def rank(self) -> int:
        """Number of sampled directions."""
        return len(self.span)


def noise_span(
    vector: Float[Tensor, " d_model"], rank: int, generator: torch.Generator
) -> Float[Tensor, "rank d_model"]:
    """Orthonormal directions for the noise: the vector's own, then random ones.

    Args:
        vector: θ.
        rank: How many; all directions if it is d_model.
        generator: Of the random ones.
    """
    width = len(vector)
    if rank >= width:
        return torch.eye(width)
    drawn = torch.randn(rank, width, generator=generator, dtype=torch.float64)
    drawn[0] = vector.double()
    basis: Tensor = torch.linalg.qr(drawn.T).Q
    return basis.T.float()


def noisy_copies(
    vector: Float[Tensor, " d_model"],
    span: Float[Tensor, "rank d_model"],
    scale: float,
    n: int,
    generator: torch.Generator,
) -> Float[Tensor, "sample d_model"]:
    """θ + λ ε with ε normal in the span and λ = scale · ‖θ‖/√rank: noise as long as scale · θ."""
    noise = torch.randn(n, len(span), generator=generator) @ span
    unit = float(vector.norm()) / len(span) ** 0.5
    copies: Tensor = vector + scale * unit * noise
    return copies


def queries_of(
    model: LanguageModel,
    prompts: Mapping[Split, Sequence[Prompt]],
    n: int,
    memory: int | None = None,
) -> dict[Split, Responses]:
    """The first queries of each split, run once for all layers."""
    return {split: Responses.of(model, asked[:n], 0, memory) for split, asked in prompts.items()}


def fit_map(
    queries: Mapping[Split, Responses],
    vector: Float[Tensor, " d_model"],
    layer: int,
    settings: FitSettings,
    *,
    scales: Sequence[float] | None = None,
) -> FittedMap:
    """Fit W around a vector; of noise scales and ridges, the best pair on validation.

    What is best is the mean, over all scales of the held-out noise, of R² on validation queries: a
    fit on small noise has to hold for large noise, too. A constant is granted there, since what few
    validation queries answer to θ itself would outweigh all that the fits differ in.

    Args:
        queries: From `queries_of`.
        vector: θ.
        layer: Where it is added.
        settings: How to fit.
        scales: Noise scales to fit on, of those held out; all by default.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169: W_TV of 1_n (W θ)ᵀ ≈ ΔH, on noisy
        copies. We differ: noise is chosen on validation, and the fit is to the mean over queries.
    """
    vector = vector.float().cpu()
    generator = torch.Generator().manual_seed(settings.seed)
    rank = min(settings.most_directions or len(vector), len(vector))
    span = noise_span(vector, rank, generator)
    n_samples = settings.samples_per_direction * rank
    here = {split: asked.at(layer) for split, asked in queries.items()}
    held_out = []
    for scale in settings.scales:
        copies = noisy_copies(vector, span, scale, settings.n_held_out, generator)
        held_out.append((copies.double(), here["validation"].changes(copies).mean))
    found: list[tuple[float, float, float, Tensor]] = []
    for scale in scales or settings.scales:
        copies = noisy_copies(vector, span, scale, n_samples, generator)
        fits = RidgeFits.of(copies, here["train"].changes(copies).mean)
        for ridge in settings.ridges:
            matrix = fits.at(ridge)
            reached = [slope_r_squared(x @ matrix.T, y) for x, y in held_out]
            found.append((sum(reached) / len(reached), scale, ridge, matrix))
    _, scale, ridge, matrix = max(found, key=lambda one: one[0])
    return FittedMap(
        layer=layer,
        vector=vector,
        matrix=matrix,
        span=span,
        noise_scale=scale,
        ridge=ridge,
        n_samples=n_samples,
    )
