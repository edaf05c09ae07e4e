"""`vanilla`: the difference that demonstrations make to the last token's state, added.

The smallest method: read this file to learn what a method is. A frozen config, one function from a
run context to candidates, and a line in the registry.
"""

import time
from typing import Literal

from pydantic import Field

from taskvectors.methods.hendel import HENDEL
from taskvectors.methods.learned import LTV
from taskvectors.methods.shared.at_sites import AtSites
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.vectors import TaskVector, sites_at


class Vanilla(AtSites):
    """Mean over prompts of h(with demonstrations) - h(without), added at strength 1 and others."""

    kind: Literal["vanilla"] = "vanilla"
    strengths: tuple[float, ...] = Field(default=(1.0, 0.5, 2.0), min_length=1)
    """Factors to try; the best on validation is shown beside strength 1."""
    n_prompts: int = Field(default=100, ge=1)
    """Most training prompts to average over."""


def vanilla(context: RunContext, config: Vanilla) -> list[Candidate]:
    """One candidate per layer and strength.

    Source: Yang et al. (2026), https://arxiv.org/abs/2509.24169: θ = h_ICL - h at the last token,
        added. We differ: averaged over many prompts, each with its own demonstrations.
    """
    started = time.perf_counter()
    groups = config.groups(context.model)
    directions = context.demonstrations_effect(config.n_prompts)
    runs = [context.prompts("train", shots)[: config.n_prompts] for shots in (0, context.shots)]
    tokens = sum(len(prompt.token_ids) for run in runs for prompt in run)
    cost = Cost(
        examples=len(context.task.train),
        seconds=time.perf_counter() - started,
        forward_tokens=tokens,
    )
    origin = context.origin(config.kind, shots=context.shots, settings={"n_prompts": len(runs[0])})
    candidates = []
    for layers in groups:
        sites = sites_at(layers, config.positions)
        values = directions[[site.layer + 1 for site in sites]]
        vector = TaskVector(values=values, sites=sites, operation="add", origin=origin)
        candidates += [
            Candidate(method=config.kind, vector=vector, strength=strength, cost=cost)
            for strength in config.strengths
        ]
    return candidates


def _plan(context: RunContext, config: Vanilla) -> Plan:
    return Plan(
        found=tuple(
            read_work(context, "train", shots, config.n_prompts) for shots in (context.shots, 0)
        ),
        joins=config.joins(context.model),
        positions=config.positions,
        strengths=config.strengths,
    )


METHODS.register(
    Method(
        config=Vanilla,
        find=vanilla,
        plan=_plan,
        title="Vanilla vector",
        summary="mean difference of last-token states with and without demonstrations, added",
        papers=(LTV, HENDEL),
        fails="At several layers it overshoots, away from the last token it is out of place, and "
        "it can hold no more than demonstrations do.",
        quick={"n_prompts": 4, "strengths": (1.0, -2.0)},
    )
)
