"""From work to what it costs: tokens, operations, memory, time.

Time is that of a roofline whose ceilings were measured: a matrix product takes its operations and
the taking up of its weights, what goes element by element takes its bytes, and each call of a
block, each key attended to and each logit takes what was measured of one. Memory is the trunk's
own plan.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from taskvectors.costs.devices import Device
from taskvectors.methods.training.trainer import renewals
from taskvectors.methods.training.vocabulary import LARGEST_SHARE
from taskvectors.models import LanguageModel
from taskvectors.models.unembedding import VOCABULARY_SLICE
from taskvectors.trunk.cache import KEPT_SHARE
from taskvectors.trunk.memory import (
    DEFAULT_SHARE,
    per_token_bytes,
    prompts_that_fit,
    trunk_bytes,
    work_bytes,
)
from taskvectors.trunk.work import Work

_USABLE = 0.9
"""Share of a device's memory that a model and its work can fill."""
_LISTED = 20_480
"""Tokens on the shortlist of a training run: what those of `capital` and 18 layers came to."""
_READ_AND_WRITTEN = 2
"""What a block makes of a token is written once and read once."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a piece of work takes.

    Attributes:
        name: What it is for.
        forward_tokens: Tokens through the model; through half of the blocks counts as half.
        flops: Floating-point operations.
        trunk_bytes: What the trunk keeps at once.
        peak_bytes: What is held at the peak, weights included.
        seconds: Time.
    """

    name: str
    forward_tokens: int
    flops: float
    trunk_bytes: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What the arithmetic asks of a model."""

    block: float
    """Weights of a block that one token meets."""
    block_bytes: float
    """Bytes of all weights of a block."""
    vocabulary: float
    """Weights of the unembedding."""
    total_bytes: int


def cost_of(model: LanguageModel, work: Work, device: Device, *, budget: float) -> Cost:
    """What a piece of work takes.

    Args:
        model: The model; its weights are not needed.
        work: What is run.
        device: Where.
        budget: Bytes for trunk and work, beside the weights.

    Raises:
        MemoryBudgetError: Not even one prompt fits them.
    """
    held, beside, at_once = _memory(model, work, budget)
    passes = math.ceil(work.n_prompts / at_once)
    flops = seconds = 0.0
    tokens = 0 if work.has_trunk else work.tokens
    if tokens:
        # one pass is as long as its longest prompt; of several, each has prompts of one length
        length = work.shape.prefix + work.shape.suffix
        run = tokens if passes > 1 else work.n_prompts * length
        flops = _block_flops(model, run, _mean_length(work) / 2) * model.n_layers
        seconds = _blocks_seconds(
            model, device, tokens=run, flops=flops, calls=2 * passes * model.n_layers
        )
    if work.n_passes:
        branch_flops, branch_seconds = _branches(model, work, device)
        flops += branch_flops
        seconds += branch_seconds
    return Cost(
        name=work.name,
        forward_tokens=round(work.forward_tokens(model.n_layers)),
        flops=flops,
        trunk_bytes=held,
        peak_bytes=_sizes(model).total_bytes + held + beside,
        seconds=seconds,
    )


def costs_of(
    model: LanguageModel, works: Iterable[Work], device: Device, *, budget: float
) -> list[Cost]:
    """What pieces of work take one after the other, where what one leaves the next ones use.

    Args:
        model: The model; its weights are not needed.
        works: What is run, in order.
        device: Where.
        budget: Bytes for trunk and work, beside the weights.

    Raises:
        MemoryBudgetError: Not even one prompt of some work fits them.
    """
    found: list[Cost] = []
    done: set[Work] = set()
    trunks: set[int] = set()
    for work in works:
        if work in done:
            continue
        has_trunk = work.has_trunk or work.prompts in trunks
        cost = cost_of(model, replace(work, has_trunk=has_trunk), device, budget=budget)
        if work.keeps == "results":
            done.add(work)
        elif work.keeps == "trunk" and cost.trunk_bytes <= KEPT_SHARE * budget:
            trunks.add(work.prompts)
        found.append(cost)
    return found


def total(costs: Sequence[Cost], name: str = "all") -> Cost:
    """Work that is done one after the other; none takes nothing."""
    return Cost(
        name=name,
        forward_tokens=sum(cost.forward_tokens for cost in costs),
        flops=sum(cost.flops for cost in costs),
        trunk_bytes=max((cost.trunk_bytes for cost in costs), default=0),
        peak_bytes=max((cost.peak_bytes for cost in costs), default=0),
        seconds=sum(cost.seconds for cost in costs),
    )


def devices_needed(cost: Cost, device: Device) -> int:
    """How many devices hold it; their layers run one after the other, so time stays."""
    return math.ceil(cost.peak_bytes / (_USABLE * device.memory))


def room_beside(weights: int, device: Device) -> float:
    """Bytes that may be used beside some weights, on as many devices as these need."""
    n = math.ceil(weights / (_USABLE * device.memory))
    return DEFAULT_SHARE * (n * device.memory - weights)


def weight_bytes(model: LanguageModel) -> int:
    """Bytes of a model's weights."""
    return _sizes(model).total_bytes


def block_weights(model: LanguageModel) -> tuple[float, float]:
    """Weights of a block that one token meets, and of the unembedding."""
    return _sizes(model).block, _sizes(model).vocabulary


@lru_cache(maxsize=8)
def _sizes(model: LanguageModel) -> _Sizes:
    config = model.config
    n_experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    used = (config.num_experts_per_tok / n_experts) if n_experts else 1.0
    block = held = 0.0
    for name, parameter in model.blocks[0].named_parameters():
        if parameter.dim() > 1:
            # experts' weights are one tensor of three axes, or a module each
            is_expert = parameter.dim() == 3 or ".experts." in f".{name}"
            block += parameter.numel() * (used if is_expert else 1.0)
            held += parameter.numel() * parameter.element_size()
    weight = model.hf.get_output_embeddings().weight
    return _Sizes(
        block=block,
        block_bytes=held,
        vocabulary=float(weight.numel()),
        total_bytes=sum(p.numel() * p.element_size() for p in model.hf.parameters()),
    )


def _memory(model: LanguageModel, work: Work, budget: float) -> tuple[int, int, int]:
    """Bytes of trunks and of the work beside them, and how many prompts are run at once."""
    each, beside = trunk_bytes(model, work.shape), work_bytes(model, work.shape)
    if work.kept:
        held = sum(trunk_bytes(model, kept.shape) * kept.n_prompts for kept in work.kept)
        return held, beside * work.prompts_per_pass, work.n_prompts
    fitting = prompts_that_fit(model, work.shape, int(budget))
    at_once = min(work.prompts_per_pass or work.n_prompts, fitting)
    return each * at_once, beside * at_once + round(4 * work.logits), at_once


def _mean_length(work: Work) -> float:
    return work.tokens / work.n_prompts


def _block_flops(model: LanguageModel, tokens: float, attended: float) -> float:
    """Operations of one block: its products, and attention to some tokens on average."""
    return tokens * (2 * _sizes(model).block + 4 * model.attention_size[1] * attended)


def _blocks_seconds(
    model: LanguageModel, device: Device, *, tokens: float, flops: float, calls: float
) -> float:
    """Time of all tokens through all blocks, in some calls of blocks."""
    products = flops / device.flops + calls * _sizes(model).block_bytes / device.weight_bandwidth
    moved = _READ_AND_WRITTEN * tokens * model.n_layers * per_token_bytes(model)
    elements = moved / device.bandwidth
    return products + elements + calls * device.block_seconds


def _branches(model: LanguageModel, work: Work, device: Device) -> tuple[float, float]:
    """Operations and time of all passes of the branches."""
    sizes = _sizes(model)
    n_branches = max(1, work.shape.n_branches)
    # a backward pass reaches the edit through the same products, of frozen weights
    ways = 2 if work.is_training else 1
    through = (work.padded_tokens or work.branch_tokens) * work.blocks
    blocks = ways * _block_flops(model, through, _mean_length(work))
    listed = _listed_share(model, work)
    unembedding = ways * 2 * work.rows * sizes.vocabulary * listed
    depth = min(model.n_layers, math.ceil(work.blocks / n_branches * min(2, n_branches)))
    weights = depth * sizes.block_bytes + sizes.vocabulary * listed * model.dtype.itemsize
    products = (blocks + unembedding) / device.flops + ways * weights / device.weight_bandwidth
    moved = ways * _READ_AND_WRITTEN * through * per_token_bytes(model)
    if work.is_training:
        call, key, logit = device.step_seconds, device.attention_step_seconds, device.loss_seconds
    else:
        call, key, logit = device.block_seconds, device.attention_seconds, device.logit_seconds
    keys = work.prompts_per_pass * depth * work.shape.prefix * model.attention_size[1]
    seconds = products + moved / device.bandwidth + depth * call + keys * key
    seconds += (work.rows * model.d_vocab * listed + work.logits) * logit
    flops, seconds = work.n_passes * (blocks + unembedding), work.n_passes * seconds
    if listed < 1:
        # renewals go forward, over the full vocabulary and two lists, on most training prompts
        n_passes = len(renewals(work.n_passes)) * work.n_prompts / work.prompts_per_pass
        rows = n_passes * work.rows
        renewed = n_passes * blocks / ways + 2 * (1 + 2 * listed) * rows * sizes.vocabulary
        flops += renewed
        seconds += renewed / device.flops + rows * model.d_vocab * device.logit_seconds
    return flops, seconds


def _listed_share(model: LanguageModel, work: Work) -> float:
    """The share of the vocabulary that a pass goes over."""
    if not work.is_step or model.d_vocab * LARGEST_SHARE < 2 * VOCABULARY_SLICE:
        return 1.0
    return min(1.0, _LISTED / model.d_vocab)
