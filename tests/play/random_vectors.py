"""Vectors of random numbers for small models."""

from typing import Any

import torch

from taskvectors.vectors import Site, TaskVector, VectorOrigin


def vector_at(model: Any, *sites: Site, seed: int = 0, **changes: Any) -> TaskVector:
    """A vector of a model that says it was learned for `capital`."""
    generator = torch.Generator().manual_seed(seed)
    return TaskVector(
        values=torch.randn(len(sites), model.d_model, generator=generator),
        sites=sites,
        origin=VectorOrigin.of_model(model, method="learned", task="capital", template="qa"),
        **changes,
    )
