"""Is in-context learning out of distribution better the deeper the vector is formed?

The claim of Yang et al. (2025) as a test: per shift, the rank correlation of the error with l*
within each seed, averaged over seeds, against all ways to deal the layers out within seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.evaluate import orders


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How an error moves with l*."""

    correlation: float
    """Mean over seeds of Spearman's rank correlation; below 0, deeper is better."""
    p_value: float
    """Share of the orders within seeds whose correlation is at least as far from 0."""
    smallest_p_value: float
    """The smallest that the test could give with so many layers and seeds."""
    n_seeds: int
    n_layers: int


def trend_on_layer(
    errors: Sequence[Sequence[float]], *, n_draws: int = 5000, seed: int = 0
) -> Trend | None:
    """The trend of errors on l*, or None with fewer than three layers.

    Args:
        errors: Per seed, the errors in the order of l*; every seed has the same layers.
        n_draws: Random orders, where there are too many to count.
        seed: Seed of the random orders.

    Raises:
        ValueError: Seeds have different numbers of layers.

    Source: ours; the claim is in Yang et al. (2025), https://arxiv.org/abs/2501.09240.

    Example:
        >>> trend_on_layer([[3.0, 2.0, 1.0], [3.5, 2.5, 0.5]]).correlation
        -1.0
    """
    if len({len(one) for one in errors}) > 1:
        raise ValueError("a trend needs the same layers for every seed")
    n_layers = len(errors[0]) if errors else 0
    if n_layers < 3:
        return None
    values = torch.tensor(errors, dtype=torch.double)
    found = _correlations(values.unsqueeze(0))[0]
    compared = orders(n_layers, n_groups=len(errors), n_draws=n_draws, seed=seed)
    drawn = _correlations(values.expand(len(compared.values), -1, -1).gather(2, compared.values))
    # rising in every seed, or falling in every seed
    smallest = 2 / factorial(n_layers) ** len(errors)
    p = compared.p_value(drawn.abs(), float(found.abs()), smallest)
    return Trend(
        correlation=round(float(found), 12),
        p_value=p.value,
        smallest_p_value=p.smallest,
        n_seeds=len(errors),
        n_layers=n_layers,
    )


def _correlations(values: Float[Tensor, "draw seed layer"]) -> Float[Tensor, " draw"]:
    """Mean over seeds of Spearman's correlation with the layer; equal values share their rank."""
    below = (values.unsqueeze(-1) > values.unsqueeze(-2)).double().sum(dim=-1)
    equal = (values.unsqueeze(-1) == values.unsqueeze(-2)).double().sum(dim=-1)
    ranks = below + (equal - 1) / 2
    ranks = ranks - ranks.mean(dim=-1, keepdim=True)
    layers = torch.arange(values.shape[-1], dtype=torch.double)
    layers = layers - layers.mean()
    scale = ranks.norm(dim=-1) * layers.norm()
    by_seed: Tensor = (ranks * layers).sum(dim=-1) / scale.clamp(min=1e-12)
    return by_seed.mean(dim=-1)
