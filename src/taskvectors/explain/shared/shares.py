"""Shares with their intervals: of prompts, over several draws, of what a vector gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from taskvectors.evaluate import paired_difference, wilson_interval

_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float


def share_of(is_correct: Bool[Tensor, " prompt"]) -> Share:
    """The share of prompts, with Wilson's interval."""
    low, high = wilson_interval(int(is_correct.sum()), len(is_correct))
    return Share(value=float(is_correct.double().mean()), low=low, high=high)


def share_over(draws: Sequence[Bool[Tensor, " prompt"]], seed: int = 0) -> Share:
    """The mean share over several draws of something on the same prompts.

    The interval is a bootstrap over draws and, within each, over prompts. Where all are alike it
    has nothing to draw from, and Wilson's interval for the prompts of one draw is given.
    """
    if all(bool((draw == draws[0][0]).all()) for draw in draws):
        return share_of(draws[0])
    never = [torch.zeros_like(draw) for draw in draws]
    found = paired_difference(draws, never, n_draws=_DRAWS, seed=seed)
    return Share(value=found.mean, low=found.low, high=found.high)


def gained(
    found: Bool[Tensor, " prompt"],
    whole: Bool[Tensor, " prompt"],
    plain: Bool[Tensor, " prompt"],
    seed: int = 0,
) -> Share | None:
    """What share of the gain of `whole` over `plain` is found, with a bootstrap over prompts.

    None where there is no gain. Draws without one count as the end of the interval that they speak
    for: nothing can be said of the share there.
    """
    gain = float(whole.double().mean() - plain.double().mean())
    if gain <= 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(found), (_DRAWS, len(found)), generator=generator)
    part = (found.double() - plain.double())[index].mean(dim=1)
    total = (whole.double() - plain.double())[index].mean(dim=1)
    ratios = torch.where(total > 0, part / total, torch.inf * torch.sign(part))
    ratios = ratios.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf).sort().values
    low, high = ratios[int(0.025 * _DRAWS)], ratios[int(0.975 * _DRAWS) - 1]
    value = float(found.double().mean() - plain.double().mean()) / gain
    return Share(value=value, low=float(low), high=float(high))
