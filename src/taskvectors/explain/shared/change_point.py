"""Where a curve over layers changes: found, with a permutation test, not assumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.evaluate import PValue, orders

FEWEST = 4
"""Layers below which no change can be told from noise."""


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """The split of a curve into two levels that leaves the least variance."""

    last_before: int
    """The last layer of the first level."""
    first_after: int
    before: float
    after: float
    explained: float
    """Share of the variance over layers that the two levels explain."""
    p: PValue
    """Share of orders of the layers whose best split explains as much."""


def change_point(
    layers: Sequence[int], values: Sequence[float], *, seed: int = 0
) -> ChangePoint | None:
    """Two levels of a curve; None for fewer than four layers or a curve that is flat.

    Args:
        layers: In order.
        values: One for each.
        seed: Of the random orders, where there are too many to count.
    """
    curve = torch.tensor(values, dtype=torch.float64)
    if len(layers) < FEWEST or float(curve.var()) == 0:
        return None
    explained = _explained(curve.unsqueeze(0))[0]
    best = int(explained.argmax())
    compared = orders(len(curve), seed=seed)
    reached = _explained(curve[compared.values[:, 0]]).amax(dim=1)
    # two clean levels of half the layers each: one order in so many keeps them apart
    smallest = 2 / comb(len(curve), len(curve) // 2)
    return ChangePoint(
        last_before=layers[best],
        first_after=layers[best + 1],
        before=float(curve[: best + 1].mean()),
        after=float(curve[best + 1 :].mean()),
        explained=float(explained[best]),
        p=compared.p_value(reached, float(explained[best]), smallest),
    )


def _explained(curves: Float[Tensor, "curve layer"]) -> Float[Tensor, "curve split"]:
    """Share of each curve's variance that lies between the two sides of each split."""
    n = curves.shape[1]
    centred = curves - curves.mean(dim=1, keepdim=True)
    below = torch.arange(1, n, dtype=curves.dtype)
    sums = centred.cumsum(dim=1)[:, :-1]
    between = sums.square() * (1 / below + 1 / (n - below))
    return between / centred.square().sum(dim=1, keepdim=True)
