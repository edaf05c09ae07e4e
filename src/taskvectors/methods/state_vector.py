"""`state-vector`: what the heads of the first layers write at the separators, refined, put back.

The state behind k demonstrations is the output of all heads (before W_O) of the first layers at the
separator that follows them. The states behind 1, 2, ..., N demonstrations are read as the steps of
an optimiser: they are averaged, or followed a step further.
"""

import logging
import time
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.prompts import separators
from taskvectors.trunk import Trunk, prompts_that_fit, resolve_budget, shape_of
from taskvectors.trunk.work import run_of
from taskvectors.vectors import TaskVector, sites_at

logger = logging.getLogger(__name__)

Variant = Literal["average", "inner", "momentum", "fixed", "fix-one-step"]
OURS: tuple[Variant, ...] = ("average", "inner", "momentum")
RELEASED: tuple[Variant, ...] = ("fixed", "fix-one-step")
"""Those of the released code, under the names it has for them."""
RELEASED_STATES = 7
"""How many of the last states they average."""
_WEIGHTS = (1, 2, 4, 8, 16)
"""Of the differences that `fix-one-step` adds, the latest last."""
_N_DEPTHS = 8


class StateVector(BaseModel):
    """Head outputs at separators, which replace those at the last token of another prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["state-vector"] = "state-vector"
    variants: tuple[Variant, ...] | None = Field(default=None, min_length=1)
    """`average`: the state behind all demonstrations; `inner`: the mean of the states behind 1 to N
    of them; `momentum`: the former and a step along the states' differences. Those of the released
    code: `fixed`: the mean of the last seven states; `fix-one-step`: that and a step. By default
    all that there are demonstrations for."""
    depths: tuple[int, ...] | None = None
    """Numbers of first blocks whose heads are replaced; up to eight numbers by default."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """What is kept of the differences before, with each further one."""
    n_prompts: int = Field(default=25, ge=1)
    """Most training prompts to average over."""


def state_vector(context: RunContext, config: StateVector) -> list[Candidate]:
    """One candidate per variant and depth.

    Raises:
        UnsupportedModelError: The model has not that many blocks, or other heads in some.
        TaskVectorsError: A variant needs more demonstrations.
        PositionError: The prompts have no separators, as those of a chat.

    Source: Li et al. (2024), https://arxiv.org/abs/2404.11225. `fixed` and `fix-one-step` are the
        optimisers that the released code runs by default, with its weights and its learning rate
        of 1 (https://github.com/HITsz-TMG/ICL-State-Vector, optimizer.py). `inner` and `momentum`
        are ours, after an account of the paper. We differ in all: the mean over many prompts; the
        depth and the variant are chosen on validation, where the released code has a depth per
        task; groups of examples (their divide-and-conquer) are not made, since prompts are
        averaged.
    """
    started = time.perf_counter()
    _ = context.model.all_heads  # raises where blocks have none, or other ones
    model, variants = context.model, _variants(config, context.shots)
    depths = config.depths or default_depths(model.n_layers)
    if not 1 <= min(depths) <= max(depths) <= model.n_layers:
        raise UnsupportedModelError(
            f"depths {', '.join(map(str, depths))} were asked for, and {model.source} has "
            f"{model.n_layers} blocks; give numbers from 1 to {model.n_layers}"
        )
    states = separator_states(context, config.n_prompts, max(depths))
    read = context.prompts("train", context.shots)[: config.n_prompts]
    cost = Cost(
        examples=len({pair for prompt in read for pair in prompt.demonstrations}),
        seconds=time.perf_counter() - started,
        forward_tokens=sum(len(prompt.token_ids) for prompt in read),
    )
    candidates = []
    for variant in variants:
        refined = refine(states, variant, config.momentum).mean(dim=1)
        origin = context.origin(
            config.kind,
            shots=context.shots,
            settings={"variant": variant, "momentum": config.momentum, "n_prompts": len(read)},
        )
        for depth in depths:
            vector = TaskVector(
                values=refined[:depth],
                sites=sites_at(range(depth), [-1], "z"),
                operation="replace",
                origin=origin,
            )
            about = f"{variant}, heads of the first {depth} layers"
            candidates.append(
                Candidate(method=config.kind, vector=vector, configuration=about, cost=cost)
            )
    return candidates


def _variants(config: StateVector, shots: int) -> tuple[Variant, ...]:
    """The variants that are asked for, or all that there are demonstrations for."""
    if shots >= RELEASED_STATES:
        return config.variants or (*OURS, *RELEASED)
    short = f"{' and '.join(RELEASED)} average the states behind {RELEASED_STATES} demonstrations"
    if config.variants is None:
        logger.warning("%s; with %d shots they are not tried", short, shots)
        return OURS
    if {*config.variants} & {*RELEASED}:
        raise TaskVectorsError(f"{short}, and there are {shots} shots; give --shots 7 or more")
    return config.variants


def separator_states(
    context: RunContext, n_prompts: int, depth: int
) -> Float[Tensor, "layer prompt step width"]:
    """`z` of the first blocks behind 1, 2, ..., N demonstrations of training prompts; float32."""
    model = context.model
    read = context.prompts("train", context.shots)[:n_prompts]
    # the first demonstration's separator has nothing before it
    places = separators(context.shots)[1:]
    budget = resolve_budget(context.memory, model.device)
    step = prompts_that_fit(model, shape_of(read, places, n_branches=0), budget)
    parts = []
    for start in range(0, len(read), step):
        trunk = Trunk.build(
            model,
            read[start : start + step],
            positions=places,
            sites=[(layer, "z") for layer in range(depth)],
        )
        parts.append(
            torch.stack([trunk.read(layer, "z", places).float().cpu() for layer in range(depth)])
        )
    return torch.cat(parts, dim=1)


def refine(
    states: Float[Tensor, "layer prompt step width"], variant: Variant, momentum: float
) -> Float[Tensor, "layer prompt width"]:
    """One state out of those behind 1, 2, ..., N demonstrations.

    Args:
        states: V_1, ..., V_N along the third axis.
        variant: `average` is V_N, `inner` the mean of all; `momentum` is V_N + m_N, with m_1 = 0
            and m_k = β m_(k-1) + (1 - β) (V_k - V_(k-1)). `fixed` is the mean of the last seven;
            `fix-one-step` is that plus (1 d_1 + 2 d_2 + 4 d_3 + 8 d_4 + 16 d_5) / 31, where d_5 is
            V_(N-1) - V_(N-2) and d_1 four steps before it.
        momentum: β.
    """
    if variant in RELEASED:
        mean = states[:, :, -RELEASED_STATES:].mean(dim=2)
        if variant == "fixed":
            return mean
        # the difference to the last state has the weight 0 in the released code
        differences = states[:, :, -RELEASED_STATES:-1].diff(dim=2)
        weights = states.new_tensor(_WEIGHTS) / sum(_WEIGHTS)
        return mean + (differences * weights.view(-1, 1)).sum(dim=2)
    if variant == "inner":
        return states.mean(dim=2)
    last = states[:, :, -1]
    if variant == "average":
        return last
    step = torch.zeros_like(last)
    for difference in states.diff(dim=2).unbind(dim=2):
        step = momentum * step + (1 - momentum) * difference
    return last + step


def default_depths(n_layers: int) -> tuple[int, ...]:
    """Up to eight numbers of first blocks, the last being all of them."""
    parts = min(_N_DEPTHS, n_layers)
    return tuple(-(-n_layers * part // parts) for part in range(1, parts + 1))


def _plan(context: RunContext, config: StateVector) -> Plan:
    depths = config.depths or default_depths(context.model.n_layers)
    prompts = context.prompts("train", context.shots)[: config.n_prompts]
    joins = (-1,) * (len(_variants(config, context.shots)) * len(depths))
    return Plan(found=(run_of("reading separators", prompts),), joins=joins)


METHODS.register(
    Method(
        config=StateVector,
        find=state_vector,
        plan=_plan,
        title="State vector",
        summary="outputs of the first layers' heads at separators, averaged or with momentum",
        papers=(
            Paper(
                "Li, Liu, Hu, Sun, Hu, Zhang",
                2024,
                "In-Context Learning State Vector with Inner and Momentum Optimization",
                "https://arxiv.org/abs/2404.11225",
            ),
        ),
        fails="With many blocks replaced the last token no longer knows the query; the first few "
        "blocks do not hold the task yet.",
        quick={"n_prompts": 2, "depths": (1, 4)},
    )
)
