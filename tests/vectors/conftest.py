"""Vectors with random values, prompts as padded batches, and injection written out by hand."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest


@pytest.fixture
def random_vector() -> Callable[..., Any]:
    """`random_vector(model, sites, operation="add", seed=0)`: large enough to change logits."""
    import torch

    from taskvectors.models.sites import width_of
    from taskvectors.vectors import Site, TaskVector, VectorOrigin

    def make(
        model: Any, sites: Sequence[Site], operation: str = "add", seed: int = 0
    ) -> TaskVector:
        generator = torch.Generator().manual_seed(seed)
        width = width_of(model, sites[0].layer, sites[0].component)
        return TaskVector(
            values=torch.randn(len(sites), width, generator=generator) * 2,
            sites=tuple(sites),
            operation=operation,
            origin=VectorOrigin.of_model(model, method="random", task="capital", seed=seed),
        )

    return make


@pytest.fixture
def padded() -> Callable[..., dict[str, Any]]:
    """`padded(rows, side)`: rows of token ids as the arguments of one call of a model."""
    import torch

    def pad(rows: Sequence[Sequence[int]], side: str = "left") -> dict[str, Any]:
        longest = max(map(len, rows))
        ids, mask = [], []
        for row in rows:
            filler = [0] * (longest - len(row))
            real = [1] * len(row)
            ids.append([*filler, *row] if side == "left" else [*row, *filler])
            mask.append([*filler, *real] if side == "left" else [*real, *filler])
        attention = torch.tensor(mask)
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": attention,
            "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        }

    return pad


@pytest.fixture
def by_hand() -> Callable[..., Any]:
    """`by_hand(model, tokens, n_prompt, vector)`: logits of one row without padding or cache.

    The first `n_prompt` tokens are the prompt, the others are `answer` or `generated`. Every edit
    is a loop over tokens.
    """
    import torch

    from taskvectors.models import patch

    def columns(position: int | str, n_prompt: int, n_tokens: int) -> list[int]:
        if isinstance(position, int):
            return [position if position >= 0 else n_prompt + position]
        beyond = list(range(n_prompt, n_tokens))
        return {"last": [n_prompt - 1], "all": list(range(n_prompt))}.get(position, beyond)

    def run(model: Any, tokens: Sequence[int], n_prompt: int, vector: Any) -> torch.Tensor:
        with torch.no_grad(), ExitStack() as stack:
            for site, value in zip(vector.sites, vector.values, strict=True) if vector else ():

                def edit(state: Any, site: Any = site, value: Any = value) -> Any:
                    state = state.clone()
                    for column in columns(site.position, n_prompt, state.shape[1]):
                        kept = 0 if vector.operation == "replace" else state[:, column]
                        state[:, column] = kept + value.to(state.dtype)
                    return state

                stack.enter_context(patch(model, site.layer, site.component, edit))
            return model.hf(input_ids=torch.tensor([list(tokens)])).logits[0]

    return run
