"""How much a piece of work will take, before it is taken.

The estimate counts what the trunk keeps and what a pass or a training step holds at its peak, from
the model's shape alone. It errs on the large side: attention scores are counted as if held in
float32.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from taskvectors.errors import MemoryBudgetError
from taskvectors.models.accelerator import all_bytes, free_bytes
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.unembedding import VOCABULARY_SLICE
from taskvectors.prompts import Prompt
from taskvectors.trunk.edits import Position
from taskvectors.trunk.split import suffix_start

DEFAULT_SHARE = 0.5
"""Share of the free memory that may be used when no budget is stated."""

_CHUNK = 64
"""Tokens that linear attention works on at once where the config does not say (Qwen3-Next)."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of some work on one prompt."""

    prefix: int
    suffix: int
    n_branches: int
    """Branches that run side by side; 0 for a plain run."""
    is_training: bool = False
    """Whether every block's activations are kept for a backward pass."""


def shape_of(
    prompts: Sequence[Prompt],
    positions: Sequence[Position],
    *,
    n_branches: int,
    is_training: bool = False,
) -> Shape:
    """The padded shape of some prompts, cut before the earliest of some positions."""
    starts = [suffix_start(prompt, positions) for prompt in prompts]
    whole = [len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts]
    return Shape(
        prefix=max(starts),
        suffix=max(n - start for n, start in zip(whole, starts, strict=True)),
        n_branches=n_branches,
        is_training=is_training,
    )


def trunk_bytes(model: LanguageModel, shape: Shape) -> int:
    """Bytes that the trunk of one prompt keeps."""
    tokens = shape.prefix + shape.suffix
    residual = (model.n_layers + 1) * shape.suffix * model.d_model * model.dtype.itemsize
    kept = 8 * tokens if model.engine_for(tokens) == "whole" else cache_bytes(model, shape.prefix)
    return kept + residual + 4 * shape.suffix * tokens


def cache_bytes(model: LanguageModel, n_tokens: int) -> int:
    """Bytes of what some tokens of one prompt leave for those after them."""
    return model.n_layers * key_value_bytes(model) * n_tokens + model.verified.state_bytes


def key_value_bytes(model: LanguageModel) -> int:
    """Bytes of one token's keys and values in one block."""
    return model.attention_size[2] * model.dtype.itemsize


def per_token_bytes(model: LanguageModel) -> int:
    """Bytes of everything that one block makes of one token, attention scores apart."""
    d_mlp = int(getattr(model.config, "intermediate_size", None) or 4 * model.d_model)
    n_values = 8 * model.d_model + 3 * d_mlp + 4 * model.attention_size[1]
    return n_values * model.dtype.itemsize


def work_bytes(model: LanguageModel, shape: Shape) -> int:
    """Bytes that one prompt holds at the peak of a plain run or of its branches, trunk apart."""
    per_token = per_token_bytes(model)
    tokens = shape.prefix + shape.suffix
    # attention by an index scores every token by heads of its own first
    n_heads = model.attention_size[0] + int(getattr(model.config, "index_n_heads", None) or 0)
    plain = tokens * per_token + 4 * n_heads * tokens * max(shape.prefix, shape.suffix)
    engine, states = model.engine_for(tokens), model.verified.state_bytes
    run = tokens if engine == "whole" else shape.suffix
    if states and engine == "whole":  # a scan makes the states after every token, some times over
        per_token += 4 * states // model.n_layers
    elif states:  # linear attention fills up its last chunk
        chunk = int(getattr(model.config, "chunk_size", None) or _CHUNK)
        run = -(-run // chunk) * chunk
    kept = model.n_layers if shape.is_training else 1
    branch = kept * shape.n_branches * run * (per_token + 3 * 4 * n_heads * tokens)
    if engine == "cached":  # every row goes on from a copy, and what a block appends is a new one
        plain += 2 * cache_bytes(model, tokens)
        branch += shape.n_branches * 2 * cache_bytes(model, tokens)
    rows = shape.n_branches * shape.suffix
    logits = rows * (VOCABULARY_SLICE * (4 + model.dtype.itemsize) + 8 * model.d_model)
    return max(plain, branch + logits)


def prompts_that_fit(model: LanguageModel, shape: Shape, budget: int, *, held: int = 0) -> int:
    """How many prompts of a shape fit a budget at once, trunk and work together.

    Args:
        model: The model.
        shape: The shape of the longest.
        budget: Bytes in all.
        held: Bytes of it that are taken up by something else meanwhile.

    Raises:
        MemoryBudgetError: Not even one does; the message says what would.
    """
    each = trunk_bytes(model, shape) + work_bytes(model, shape)
    needed = held + each
    if needed > budget:
        fewer = f", fewer branches at once than {shape.n_branches}" if shape.n_branches > 1 else ""
        beside = f" beside {readable(held)} that are held" if held else ""
        raise MemoryBudgetError(
            f"one prompt of {shape.prefix + shape.suffix} tokens needs about {readable(each)}"
            f"{beside}, and {readable(budget)} are granted. Grant --memory {readable(needed)} or "
            f"more, or use shorter prompts, fewer shots{fewer}."
        )
    return max(1, (budget - held) // each)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Prompts whose trunk is kept while something is learned."""

    shape: Shape
    n_prompts: int


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How learning is cut into pieces that fit."""

    rows_per_pass: int
    """Prompts per forward pass while the trunks are built."""
    rows_per_check: int
    """Validation prompts that are scored at once."""


def plan_training(
    model: LanguageModel, train: Kept, validation: Kept, *, batch_size: int, budget: int
) -> TrainingPlan:
    """What fits while both trunks are held: a training step whole, checks and passes in pieces.

    Args:
        model: The model.
        train: What is learned from; its branches are counted as in training.
        validation: What is checked on; its branches are counted without a backward pass.
        batch_size: Prompts per step.
        budget: Bytes in all.

    Raises:
        MemoryBudgetError: Trunks and a step do not fit; the message says what would.
    """
    n_vectors = train.shape.n_branches
    trunks = [trunk_bytes(model, kept.shape) * kept.n_prompts for kept in (train, validation)]
    batch = min(batch_size, train.n_prompts)
    step = work_bytes(model, train.shape) * batch
    check = work_bytes(model, validation.shape)
    needed = sum(trunks) + max(step, check)
    if needed > budget:
        raise MemoryBudgetError(
            f"learning {n_vectors} vectors on {train.n_prompts} prompts of "
            f"{train.shape.prefix + train.shape.suffix} tokens needs about {readable(needed)} "
            f"({readable(trunks[0])} for their trunk, {readable(trunks[1])} for that of "
            f"{validation.n_prompts} validation prompts, {readable(max(step, check))} for a step "
            f"of {batch}), and {readable(budget)} are granted. Use fewer layers at once, a smaller "
            f"batch, fewer training pairs or shots, or grant --memory {readable(needed)} or more."
        )
    left = budget - sum(trunks)
    # building a trunk holds what a plain run does; its own share is counted above
    plain = max(
        work_bytes(model, replace(kept.shape, n_branches=0, is_training=False))
        for kept in (train, validation)
    )
    return TrainingPlan(rows_per_pass=max(1, left // plain), rows_per_check=max(1, left // check))


def logits_that_fit(model: LanguageModel, n_held: int, budget: int) -> int:
    """For how many prompts all logits can be worked on at once, beside those of others held.

    Args:
        model: The model.
        n_held: Prompts whose logits are kept, in float32.
        budget: Bytes in all.

    Raises:
        MemoryBudgetError: Not even for one; the message says what would.
    """
    held = 4 * model.d_vocab * n_held
    # in the model's type, in float32, shifted, as probabilities, and as a gradient
    each = (model.dtype.itemsize + 4 * 4) * model.d_vocab
    if held + each > budget:
        raise MemoryBudgetError(
            f"the logits of {n_held} prompts over {model.d_vocab} tokens need about "
            f"{readable(held + each)}, and {readable(budget)} are granted. Grant --memory "
            f"{readable(held + each)} or more, or use fewer training and validation pairs."
        )
    return (budget - held) // each


def resolve_budget(stated: str | int | None, device: torch.device) -> int:
    """A budget in bytes: as stated (`4GB`, `800MB`, a number of bytes), or a share of what is free.

    Raises:
        MemoryBudgetError: It cannot be read, is not positive, or is more than the device has.
    """
    if stated is None:
        return int(DEFAULT_SHARE * free_bytes(device))
    size, most = bytes_stated(stated), all_bytes(device)
    if size > most:
        raise MemoryBudgetError(
            f"memory {stated!r} is more than there is: {device} has {readable(most)}; state less, "
            "or leave it out for half of what is free"
        )
    return size


def bytes_stated(stated: str | int) -> int:
    """A size as people write it, `4GB`, `800MB` or a number of bytes, in bytes.

    Raises:
        MemoryBudgetError: It cannot be read, or is not positive.

    Example:
        >>> bytes_stated("1.5GB")
        1500000000
    """
    if isinstance(stated, int):
        size = stated
    else:
        match = re.fullmatch(r"\s*(\d+\.?\d*)\s*([kmgt]?)i?b?\s*", stated.lower())
        if match is None:
            raise MemoryBudgetError(f"memory {stated!r} cannot be read; write it as 4GB or 800MB")
        size = int(float(match[1]) * _UNITS[match[2]])
    if size <= 0:
        raise MemoryBudgetError(f"memory {stated!r} leaves nothing to work with; write e.g. 4GB")
    return size


def readable(size: int) -> str:
    """A size for people, rounded up: 1.3GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{-(-size * 10 // factor) / 10:g}{unit}"
    return f"{size}B"
