"""Probabilities of a small GINC world as sums over all paths of hidden states, written out."""

import itertools
from collections.abc import Sequence
from typing import Any

N_STATES = 6
"""Hidden states of the fixture `small_world`."""


def naive_paths(world: Any, hmm: int, starts: Sequence[int], symbols: Sequence[int]) -> float:
    """p(symbols | first state uniform over `starts`), over all paths of hidden states."""
    model, total = world.models, 0.0
    for path in itertools.product(range(N_STATES), repeat=len(symbols)):
        if path[0] not in starts:
            continue
        p = 1 / len(starts)
        for before, after in itertools.pairwise(path):
            p *= float(model.transition[hmm, before, after])
        for state, symbol in zip(path, symbols, strict=True):
            p *= float(model.emission[hmm, state, symbol])
        total += p
    return total
