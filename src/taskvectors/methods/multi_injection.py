"""`multi-injection`: a vector in place of every answer separator of a few-shot prompt.

One vector acts as one demonstration does. So that several can, a prompt with N demonstrations gets
N + 1 of them: one at each token that predicts an answer, its own included.
"""

import time
from typing import Literal

import torch
from pydantic import Field

from taskvectors.errors import DataError
from taskvectors.methods.shared.at_sites import AtLayers
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.prompts import separators
from taskvectors.vectors import TaskVector, sites_at


class MultiInjection(AtLayers):
    """N + 1 last-token states of as many prompts, put in place at every separator of another."""

    kind: Literal["multi-injection"] = "multi-injection"
    shots: int = Field(default=4, ge=1)
    """Demonstrations N in the prompts that the vectors are put into."""


def multi_injection(context: RunContext, config: MultiInjection) -> list[Candidate]:
    """One candidate per layer, or one for all given layers together.

    Raises:
        DataError: There are fewer training pairs than vectors.
        PositionError: The prompts have no separators, as those of a chat.

    Source: Dong et al. (2026), https://arxiv.org/abs/2506.09048 (TaskV-M): the N + 1 vectors are
        the last-token states of N + 1 different few-shot prompts and replace what is at the N + 1
        separators. We differ: the layer is chosen on validation (theirs is the best on the scored
        prompts), and the vectors come from prompts of as many shots as the comparison has, in place
        of 10.
    """
    started = time.perf_counter()
    n_vectors = config.shots + 1
    read = context.prompts("train", context.shots)[:n_vectors]
    if len(read) < n_vectors:
        raise DataError(
            f"{n_vectors} vectors for prompts of {config.shots} shots need as many training pairs, "
            f"and there are {len(read)}; use fewer shots"
        )
    states = context.states(read).cpu()
    shown = {pair for prompt in read for pair in prompt.demonstrations}
    cost = Cost(
        examples=len(shown) + config.shots,
        seconds=time.perf_counter() - started,
        forward_tokens=sum(len(prompt.token_ids) for prompt in read),
    )
    origin = context.origin(config.kind, shots=config.shots, settings={"read_shots": context.shots})
    return [
        Candidate(
            method=config.kind,
            vector=TaskVector(
                values=torch.cat([states[layer + 1] for layer in layers]),
                sites=sites_at(layers, separators(config.shots)),
                operation="replace",
                origin=origin,
            ),
            shots=config.shots,
            configuration=f"{n_vectors} vectors in {config.shots}-shot prompts",
            cost=cost,
        )
        for layers in config.groups(context.model)
    ]


def _plan(context: RunContext, config: MultiInjection) -> Plan:
    return Plan(
        found=(read_work(context, "train", context.shots, config.shots + 1),),
        joins=config.joins(context.model),
        positions=separators(config.shots),
        shots=config.shots,
    )


METHODS.register(
    Method(
        config=MultiInjection,
        find=multi_injection,
        plan=_plan,
        title="Vectors at every separator",
        summary="N + 1 vectors in place of every answer separator of an N-shot prompt",
        papers=(
            Paper(
                "Dong, Jiang, Zhu, Ning",
                2026,
                "Understanding Task Vectors in In-Context Learning: Emergence, Functionality, and "
                "Limitations",
                "https://arxiv.org/abs/2506.09048",
            ),
        ),
        fails="Its prompts hold demonstrations, so it stands beside few-shot prompts with as many "
        "of them; at late layers it puts in the answer to another query.",
        quick={"shots": 2},
    )
)
