"""Intervals: how far a share, or a difference between two shares, can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, sqrt

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvectors.format import Rounded

_Z95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share.

    Args:
        successes: How often it happened.
        n: How often it could have.

    Raises:
        ValueError: n is 0, or fewer than the successes.

    Source:
        Wilson (1927), Journal of the American Statistical Association 22, 209-212.

    Example:
        >>> [round(x, 3) for x in wilson_interval(5, 10)]
        [0.237, 0.763]
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is not a share; n must be positive")
    share = successes / n
    spread = _Z95 * sqrt(share * (1 - share) / n + _Z95**2 / (4 * n * n))
    middle, scale = share + _Z95**2 / (2 * n), 1 + _Z95**2 / n
    low, high = (middle - spread) / scale, (middle + spread) / scale
    # by rounding a share of 0 or 1 would lie outside
    return max(0.0, min(share, low)), min(1.0, max(share, high))


@dataclass(frozen=True, kw_only=True, repr=False)
class Difference(Rounded):
    """A paired difference of two accuracies, with its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    ours: Sequence[Bool[Tensor, " _"]],
    theirs: Sequence[Bool[Tensor, " _"]],
    *,
    n_draws: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean over seeds of the difference in accuracy on the same prompts.

    The interval is a bootstrap in two stages: seeds are drawn, then prompts within each drawn seed.
    With one seed it speaks of the prompts alone.

    Args:
        ours: Per seed, whether each prompt is answered rightly.
        theirs: The same prompts, in the same order, by what it is compared with.
        n_draws: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        ValueError: The two do not have the same prompts.

    Example:
        >>> paired_difference([torch.tensor([True, True])], [torch.tensor([True, False])]).mean
        0.5
    """
    if [len(x) for x in ours] != [len(y) for y in theirs] or not ours:
        raise ValueError("a paired difference needs the same prompts on both sides, seed by seed")
    differences = [x.float() - y.float() for x, y in zip(ours, theirs, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(n_draws)
    for _ in differences:  # a seed that is drawn twice has its prompts drawn twice
        within = torch.stack([_resampled_means(d, n_draws, generator) for d in differences])
        picked = torch.randint(len(ours), (1, n_draws), generator=generator)
        drawn += within.gather(0, picked)[0] / len(differences)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    mean = sum(float(d.mean()) for d in differences) / len(differences)
    return Difference(mean=mean, low=low, high=high)


def pooled_interval(hits: Sequence[Bool[Tensor, " _"]]) -> tuple[float, float]:
    """95 % interval of an accuracy over several seeds.

    A bootstrap in two stages, as in `paired_difference`: test splits of different seeds share
    prompts, so they are not one large sample. Where all answers are right, or all wrong, there is
    nothing to draw differently and the bootstrap would say that nothing is uncertain; the interval
    is then Wilson's for the smallest of the splits alone, as if the other seeds added nothing.

    Args:
        hits: Per seed, whether each prompt is answered rightly.

    Raises:
        ValueError: There is no seed, or one without prompts.

    Example:
        >>> all_right = [torch.ones(40, dtype=torch.bool)] * 5
        >>> [round(x, 3) for x in pooled_interval(all_right)]
        [0.912, 1.0]
    """
    n_right, n = sum(int(hit.sum()) for hit in hits), sum(len(hit) for hit in hits)
    if n_right in (0, n):
        smallest = min((len(hit) for hit in hits), default=0)
        return wilson_interval(smallest if n_right else 0, smallest)
    spread = paired_difference(hits, [torch.zeros_like(hit) for hit in hits])
    return max(0.0, spread.low), min(1.0, spread.high)


def _resampled_means(values: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
    index = torch.randint(len(values), (n_draws, len(values)), generator=generator)
    return values[index].mean(dim=1)


_MOST_ORDERS = 40_320
"""More orders than that (those of eight items) are drawn at random instead of counted."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """The orders that a permutation test compares an observed one with."""

    values: Int[Tensor, "order group item"]
    is_complete: bool
    """Whether these are all orders there are, and not random ones."""

    def p_value(self, statistics: Tensor, observed: float, smallest: float) -> "PValue":
        """Share of orders whose statistic is at least the observed one.

        Args:
            statistics: One for each order.
            observed: That of the order which was found.
            smallest: Share of orders that are as extreme as an order can be.
        """
        hits = int((statistics >= observed - 1e-12).sum())
        if self.is_complete:
            return PValue(value=hits / len(statistics), smallest=smallest)
        n = 1 + len(statistics)  # the order that was found is one of them
        smallest = max(smallest, 1 / n)
        return PValue(value=max((1 + hits) / n, smallest), smallest=smallest)


@dataclass(frozen=True, kw_only=True, repr=False)
class PValue(Rounded):
    """A p-value with the smallest one that its test could give; above 0.05 it decides nothing."""

    value: float
    smallest: float


def orders(n: int, *, n_groups: int = 1, n_draws: int = 2000, seed: int = 0) -> Orders:
    """Orders of n items within each of some groups: all of them, or random ones if these are many.

    Args:
        n: Items of a group.
        n_groups: Groups that are ordered independently.
        n_draws: How many random orders.
        seed: Of the random orders.
    """
    if factorial(n) ** n_groups <= _MOST_ORDERS:
        every = list(product(permutations(range(n)), repeat=n_groups))
        return Orders(values=torch.tensor(every).reshape(-1, n_groups, n), is_complete=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(n_draws, n_groups, n, generator=generator).argsort(dim=-1)
    return Orders(values=drawn, is_complete=False)
