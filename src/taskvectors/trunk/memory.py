"""How much a piece of work will take, before it is taken.

The estimate counts what the trunk keeps and what a pass or a training step holds at its peak, from
the model's shape alone. It errs on the large side: attention scores are counted as if held in
float32.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from taskvectors.errors import MemoryBudgetError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.unembedding import VOCABULARY_SLICE
from taskvectors.prompts import Prompt
from taskvectors.trunk.cut import suffix_start
from taskvectors.trunk.edits import Position

DEFAULT_SHARE = 0.5
"""Share of the free memory that may be used when no budget is stated."""

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
    keys_and_values = 2 * model.n_layers * model.n_key_value_heads * model.d_head * shape.prefix
    residual = (model.n_layers + 1) * shape.suffix * model.d_model
    return (keys_and_values + residual) * model.dtype.itemsize + 4 * shape.suffix * (
        shape.prefix + shape.suffix
    )


def work_bytes(model: LanguageModel, shape: Shape) -> int:
    """Bytes that one prompt holds at the peak of a plain run or of its branches, trunk apart."""
    d_mlp = int(getattr(model.config, "intermediate_size", None) or 4 * model.d_model)
    per_token = (8 * model.d_model + 3 * d_mlp + 4 * model.n_heads * model.d_head) * (
        model.dtype.itemsize
    )
    tokens = shape.prefix + shape.suffix
    plain = tokens * per_token + 4 * model.n_heads * tokens * max(shape.prefix, shape.suffix)
    rows = shape.n_branches * shape.suffix
    kept = model.n_layers if shape.is_training else 1
    branch = kept * rows * (per_token + 3 * 4 * model.n_heads * tokens)
    logits = rows * (VOCABULARY_SLICE * (4 + model.dtype.itemsize) + 8 * model.d_model)
    return max(plain, branch + logits)


def prompts_that_fit(model: LanguageModel, shape: Shape, budget: int) -> int:
    """How many prompts of a shape fit a budget at once, trunk and work together.

    Raises:
        MemoryBudgetError: Not even one does; the message says what would.
    """
    each = trunk_bytes(model, shape) + work_bytes(model, shape)
    if each > budget:
        fewer = f", fewer branches at once than {shape.n_branches}" if shape.n_branches > 1 else ""
        raise MemoryBudgetError(
            f"one prompt of {shape.prefix + shape.suffix} tokens needs about {readable(each)}, and "
            f"{readable(budget)} are granted. Grant --memory {readable(each)} or more, or use "
            "shorter "
            f"prompts, fewer shots{fewer}."
        )
    return max(1, budget // each)


def resolve_budget(stated: str | int | None, device: torch.device) -> int:
    """A budget in bytes: as stated (`4GB`, `800MB`, a number of bytes), or a share of what is free.

    Raises:
        MemoryBudgetError: It cannot be read, or is not positive.
    """
    if stated is None:
        return int(DEFAULT_SHARE * free_bytes(device))
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


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def readable(size: int) -> str:
    """A size for people, rounded up: 1.3GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{-(-size * 10 // factor) / 10:g}{unit}"
    return f"{size}B"
