"""`hendel`: the last token's state behind demonstrations, put in the place of the plain one."""

from typing import Literal

from pydantic import Field

from taskvectors.methods.shared.at_sites import AtSites
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.vectors import TaskVector, sites_at

HENDEL = Paper(
    "Hendel, Geva, Globerson",
    2023,
    "In-Context Learning Creates Task Vectors",
    "https://arxiv.org/abs/2310.15916",
)


class Hendel(AtSites):
    """Mean state behind demonstrations and a dummy query, replacing the state of the query."""

    kind: Literal["hendel"] = "hendel"
    n_prompts: int = Field(default=100, ge=1)
    """Most dummy queries to average over."""


def hendel(context: RunContext, config: Hendel) -> list[Candidate]:
    """One candidate per layer.

    The dummy queries are training inputs, so none of them is a validation or test query.

    Source: Hendel et al. (2023), https://arxiv.org/abs/2310.15916. We differ: averaged over many
        dummy queries, each behind demonstrations of its own, where the released code has two behind
        the same ones.
    """
    groups = config.groups(context.model)
    read = context.last_tokens("train", context.shots, config.n_prompts)
    states = read.states.mean(dim=1).cpu()
    prompts = context.prompts("train", context.shots)[: config.n_prompts]
    cost = Cost(
        examples=len(context.task.train),
        seconds=read.seconds,
        forward_tokens=sum(len(prompt.token_ids) for prompt in prompts),
    )
    origin = context.origin(config.kind, shots=context.shots, settings={"n_prompts": len(prompts)})
    found = []
    for layers in groups:
        sites = sites_at(layers, config.positions)
        values = states[[site.layer + 1 for site in sites]]
        vector = TaskVector(values=values, sites=sites, operation="replace", origin=origin)
        found.append(Candidate(method=config.kind, vector=vector, cost=cost))
    return found


def _plan(context: RunContext, config: Hendel) -> Plan:
    return Plan(
        found=(read_work(context, "train", context.shots, config.n_prompts),),
        joins=config.joins(context.model),
        positions=config.positions,
    )


METHODS.register(
    Method(
        config=Hendel,
        find=hendel,
        plan=_plan,
        title="State vector of Hendel et al.",
        summary="the mean last-token state behind demonstrations, replacing the query's",
        papers=(HENDEL,),
        fails="At late layers it discards what the last token had gathered about the query; at "
        "early ones the state holds little but the token itself.",
        quick={"n_prompts": 4},
    )
)
