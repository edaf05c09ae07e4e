"""Markov chains whose transition matrix is a mixture of permutations.

Drawing which permutation acts at each step makes a step a map of all states at once, and maps
compose: stretches of √n steps are composed side by side, then joined, so that a walk of n steps
takes 2√n rounds of indexing in place of n, on any device. The chain is doubly stochastic, so its
stationary distribution is uniform.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PermutationMixtures:
    """Some chains, each a weighted set of permutations of its states."""

    weights: Float[Tensor, "chain member"]
    """Probability that a permutation acts at a step."""
    permutations: Int[Tensor, "chain member state"]
    """Where each permutation sends each state."""

    def matrices(self) -> Float[Tensor, "chain state state"]:
        """The transition matrices: Σ_j weight_j · P_j."""
        n_states = self.permutations.shape[-1]
        one_hot = torch.nn.functional.one_hot(self.permutations, n_states).to(self.weights.dtype)
        return torch.einsum("cm,cmst->cst", self.weights, one_hot)

    def to(self, device: torch.device) -> "PermutationMixtures":
        """The same on a device."""
        return PermutationMixtures(
            weights=self.weights.to(device), permutations=self.permutations.to(device)
        )

    def transposed(self) -> "PermutationMixtures":
        """The chains with transposed matrices: these, backwards in time."""
        return PermutationMixtures(
            weights=self.weights, permutations=self.permutations.argsort(dim=-1)
        )

    def with_identity(self, weight: float) -> "PermutationMixtures":
        """The same chains, staying where they are with a probability of `weight` at each step."""
        n_chains, _, n_states = self.permutations.shape
        stay = torch.arange(n_states, device=self.permutations.device).expand(n_chains, 1, -1)
        own = torch.full_like(self.weights[:, :1], weight)
        return PermutationMixtures(
            weights=torch.cat([self.weights * (1 - weight), own], dim=1),
            permutations=torch.cat([self.permutations, stay], dim=1),
        )


def draw_mixtures(
    n_chains: int, n_states: int, temperature: float, generator: torch.Generator
) -> PermutationMixtures:
    """Random chains: as many random permutations as states, weighted by a softmax of uniform draws.

    Source: Xie et al. (2022), https://arxiv.org/abs/2111.02080, as its released code draws the
        transition matrices of GINC.
    """
    device = generator.device
    shape = (n_chains, n_states)
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    order = torch.rand((*shape, n_states), generator=generator, device=device)
    return PermutationMixtures(
        weights=torch.softmax((uniform - 0.5) / temperature, dim=-1),
        permutations=order.argsort(dim=-1),
    )


def walk(
    chains: PermutationMixtures,
    chain: Int[Tensor, " batch"],
    start: Int[Tensor, " batch"],
    n_steps: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Walks of `n_steps` steps, with their start: `n_steps` + 1 states each.

    Args:
        chains: The chains.
        chain: Which of them each walk follows.
        start: First state of each walk.
        n_steps: Steps after the start.
        generator: Where randomness comes from; on the chains' device.
    """
    if n_steps == 0:
        return start[:, None]
    member = torch.multinomial(chains.weights[chain], n_steps, True, generator=generator)
    maps = chains.permutations[chain[:, None], member]  # [batch, step, state]
    length = math.isqrt(n_steps)  # of a stretch; what is missing in the last is never read
    missing = -n_steps % length
    maps = torch.nn.functional.pad(maps, (0, 0, 0, missing))
    maps = maps.view(len(maps), -1, length, maps.shape[-1])  # [batch, stretch, step, state]
    composed = [maps[:, :, 0]]  # of each stretch at once, from its begin up to each of its steps
    for place in range(1, length):
        composed.append(torch.gather(maps[:, :, place], 2, composed[-1]))
    begin = [start]
    for stretch in composed[-1].unbind(dim=1):
        begin.append(stretch.gather(1, begin[-1][:, None]).squeeze(1))
    first = torch.stack(begin[:-1], dim=1)[..., None]
    after = torch.stack([one.gather(2, first).squeeze(2) for one in composed], dim=2)
    return torch.cat([start[:, None], after.flatten(1)[:, :n_steps]], dim=1)
