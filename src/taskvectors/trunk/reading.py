"""Reading plain runs: states and heads' outputs at one token of each prompt.

This is the first half of every extracted vector; what is made of the states is the second.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import DataError
from taskvectors.models import EMBED, LanguageModel, as_model
from taskvectors.models.sites import Component
from taskvectors.prompts import Prompt, prompt_of_text
from taskvectors.trunk.cache import TrunkCache
from taskvectors.trunk.edits import Position
from taskvectors.trunk.memory import prompts_that_fit, shape_of


def read_states(
    model: LanguageModel | str | Path,
    prompts: Sequence[Prompt | str],
    *,
    position: Position = "last",
    memory: int | None = None,
) -> Float[Tensor, "layer prompt d_model"]:
    """Residual stream after every block, from `embed` up, at one token of each prompt; float32.

    Args:
        model: What `load_model` returns, or a name or path that it takes.
        prompts: Prompts, or plain texts, which are tokenized as they are.
        position: A token that is one in each prompt: a number, or a name such as `last`.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        PositionError: A prompt does not have the position.

    Example:
        states = tv.read_states(model, ["Peru ->"])
        states[1 + 9]  # after block 9
    """
    groups = _read(as_model(model), prompts, position, memory, ())
    return torch.cat([states for states, _ in groups], dim=1)


def read_heads(
    model: LanguageModel | str | Path,
    prompts: Sequence[Prompt | str],
    *,
    position: Position = "last",
    memory: int | None = None,
) -> Float[Tensor, "layer prompt head d_head"]:
    """Every head's output before W_O at one token of each prompt; float32.

    Args:
        model: A model whose blocks have the same heads.
        prompts: Prompts, or plain texts.
        position: As in `read_states`.
        memory: Budget in bytes.

    Raises:
        UnsupportedModelError: Blocks have different heads, or none.
    """
    model = as_model(model)
    heads = model.all_heads
    sites: list[tuple[int, Component]] = [(block, "z") for block in range(model.n_layers)]
    z = torch.cat([found for _, found in _read(model, prompts, position, memory, sites)], dim=1)
    return z.view(*z.shape[:2], heads.n_heads, heads.d_head)


def read_at(
    trunks: TrunkCache,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    position: Position,
    sites: Sequence[tuple[int, Component]],
) -> tuple[Float[Tensor, "layer prompt d_model"], Float[Tensor, "site prompt width"]]:
    """States of every layer and what stands at some sites, in one pass; float32.

    Args:
        trunks: Trunks that were built before, and the budget.
        model: The model.
        prompts: Prompts that fit in one pass.
        position: A token that is one in each prompt.
        sites: Further sites, all of one width.
    """
    at = (position,)
    trunk = trunks.build(model, prompts, positions=at, sites=sites)
    layers = range(EMBED, model.n_layers)
    states = torch.stack([trunk.states(layer, at)[:, 0].float() for layer in layers])
    found = [trunk.read(*site, at)[:, 0].float() for site in sites]
    return states, torch.stack(found) if found else states[:0]


def _read(
    model: LanguageModel,
    prompts: Sequence[Prompt | str],
    position: Position,
    memory: int | None,
    sites: Sequence[tuple[int, Component]],
) -> list[tuple[Tensor, Tensor]]:
    """What was read, in as many passes as the budget asks for."""
    if isinstance(prompts, str):
        prompts = [prompts]
    left = [
        prompt_of_text(model.tokenizer, prompt) if isinstance(prompt, str) else prompt
        for prompt in prompts
    ]
    if not left:
        raise DataError("there are no prompts to read; give at least one")
    trunks, found = TrunkCache(memory), []
    while left:
        shape = shape_of(left, (position,), n_branches=0)
        step = trunks.plan(model, partial(prompts_that_fit, model, shape))
        found.append(read_at(trunks, model, left[:step], position, sites))
        left = left[step:]
    return found
