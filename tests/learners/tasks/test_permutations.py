"""Walks through mixtures of permutations against the chain that their matrices describe."""

import pytest
import torch

from taskvectors.learners.tasks.shared.permutations import PermutationMixtures, draw_mixtures, walk


def test_matrices_are_the_weighted_sums_of_permutation_matrices(seeded):
    chains = draw_mixtures(3, 4, 0.5, seeded(0))
    for chain, matrix in enumerate(chains.matrices()):
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for weight, to in zip(chains.weights[chain], chains.permutations[chain], strict=True):
            for state in range(4):
                expected[state, to[state]] += weight
        assert torch.allclose(matrix, expected)


def test_matrices_are_doubly_stochastic(seeded):
    matrices = draw_mixtures(5, 10, 0.1, seeded(1)).matrices()
    assert torch.allclose(matrices.sum(dim=1), torch.ones(5, 10, dtype=torch.float64))
    assert torch.allclose(matrices.sum(dim=2), torch.ones(5, 10, dtype=torch.float64))


def test_staying_is_mixed_in(seeded):
    chains = draw_mixtures(2, 4, 0.5, seeded(0))
    expected = 0.3 * chains.matrices() + 0.7 * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(chains.with_identity(0.7).matrices(), expected)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3, 4, 7, 8, 9, 30])
def test_a_walk_of_one_permutation_follows_it(n_steps, seeded):
    turn = torch.tensor([2, 0, 3, 4, 1])  # one cycle of five
    chains = PermutationMixtures(
        weights=torch.ones(1, 1, dtype=torch.float64), permutations=turn[None, None]
    )
    start = torch.arange(5)
    states = walk(chains, torch.zeros_like(start), start, n_steps, seeded(0))
    expected = [start]
    for _ in range(n_steps):
        expected.append(turn[expected[-1]])
    assert torch.equal(states, torch.stack(expected, dim=1))


def test_steps_are_as_frequent_as_the_matrix_says(seeded):
    chains = draw_mixtures(2, 3, 0.7, seeded(3))
    which = torch.arange(2).repeat(400)
    states = walk(chains, which, torch.zeros_like(which), 60, seeded(4))
    for chain, matrix in enumerate(chains.matrices()):
        own = states[which == chain]
        pairs = torch.bincount((own[:, :-1] * 3 + own[:, 1:]).flatten(), minlength=9).reshape(3, 3)
        shares = pairs / pairs.sum(dim=1, keepdim=True)
        assert torch.allclose(shares.double(), matrix, atol=0.03)


def test_a_step_does_not_depend_on_the_one_before_the_last(seeded):
    chains = draw_mixtures(1, 3, 0.7, seeded(3))
    which = torch.zeros(3000, dtype=torch.long)
    states = walk(chains, which, which, 9, seeded(5))
    before, here, after = states[:, 6], states[:, 7], states[:, 8]
    overall = torch.bincount(after[here == 1], minlength=3) / (here == 1).sum()
    for state in range(3):
        chosen = (here == 1) & (before == state)
        if chosen.sum() > 300:
            shares = torch.bincount(after[chosen], minlength=3) / chosen.sum()
            assert torch.allclose(shares, overall, atol=0.08)
