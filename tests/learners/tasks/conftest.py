"""A small GINC world and a few random automata, and generators by seed."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def seeded() -> Callable[[int], Any]:
    """`seeded(0)`: a torch generator."""
    import torch

    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def small_world(seeded: Callable[[int], Any]) -> Any:
    """Six hidden states, five symbols, four models: small enough to enumerate."""
    from taskvectors.learners.tasks.shared.ginc_world import WorldSizes, draw_world

    sizes = WorldSizes(
        n_symbols=5, n_values=2, n_slots=3, n_hmms=4, transition_temperature=0.5, value_identity=0.6
    )
    return draw_world(sizes, seeded(0))


@pytest.fixture(scope="session")
def published(seeded: Callable[[int], Any]) -> Any:
    """A GINC world of the published sizes."""
    from taskvectors.learners.tasks.shared.ginc_world import WorldSizes, draw_world

    return draw_world(WorldSizes(), seeded(1111))
