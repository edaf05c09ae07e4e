"""`linear`: a ridge map from the zero-shot state to what demonstrations change in it.

What is added depends on the query, so it is no vector: a matrix reads the last token's state of the
plain run and gives the change. Kwon et al. call it a linear task vector; here it is the linear map,
since LTV names the learned vectors of another paper.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.evaluate import next_token_divergence
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.layers import Layers, layer_groups
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit, Trunk, prompts_that_fit, resolve_budget, shape_of
from taskvectors.trunk.work import work_of
from taskvectors.vectors import Site


class Linear(BaseModel):
    """W h added at the last token, W by ridge regression of h_ICL - h on h over queries."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["linear"] = "linear"
    layers: Layers = None
    """Layers, each with a map of its own, tried one by one; the last block by default."""
    penalties: tuple[float, ...] = Field(default=(5.0, 50.0, 500.0, 5000.0), min_length=1)
    """Ridge penalties to try, on states divided by their root mean square."""
    n_queries: int = Field(default=256, ge=1)
    """Most training queries to fit on; their answers are not used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeMap:
    """W = V diag(s / (s² + λ)) C, out of the singular value decomposition of the states."""

    right: Float[Tensor, "d_model rank"]
    """V."""
    shrunk: Float[Tensor, " rank"]
    """s / (s² + λ), over the root mean square that the states were divided by."""
    change: Float[Tensor, "rank d_model"]
    """C = Uᵀ (h_ICL - h)."""

    def __call__(self, states: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The change of some states; W itself is never formed."""
        return ((states @ self.right) * self.shrunk) @ self.change


def linear(context: RunContext, config: Linear) -> list[Candidate]:
    """One candidate per layer and penalty.

    Source: Kwon et al. (2026), https://arxiv.org/abs/2605.20730, after their released code: W h is
        added at the last layer at the label's position, without intercept. We differ: states are
        the residual stream before the final norm, divided by their root mean square before the
        ridge so that one penalty fits all models; penalties beside their 5 are tried, the best on
        validation is kept; each query has demonstrations of its own, as many as the comparison has.
    """
    started = time.perf_counter()
    model = context.model
    layers: Sequence[int | Literal["embed"]] = config.layers or (model.n_layers - 1,)
    groups = layer_groups(model, layers, each_layer=True)
    plain = context.last_states("train", 0, config.n_queries)
    shown = context.last_states("train", context.shots, config.n_queries)
    read = [
        prompt
        for shots in (0, context.shots)
        for prompt in context.prompts("train", shots)[: config.n_queries]
    ]
    cost = Cost(
        examples=len({pair for prompt in read for pair in prompt.demonstrations}),
        seconds=time.perf_counter() - started,
        forward_tokens=sum(len(prompt.token_ids) for prompt in read),
        parameters=model.d_model**2,
    )
    made = [
        (layer, penalty, _edits(context, layer, ridge))
        for (layer,) in groups
        for penalty, ridge in zip(
            config.penalties,
            ridge_maps(plain[layer + 1], shown[layer + 1], config.penalties),
            strict=True,
        )
    ]
    divergences = _divergences(context, [edits for _, _, edits in made])
    return [
        Candidate(
            method=config.kind,
            edits=edits,
            edited=(Site(layer, -1),),
            configuration=f"ridge penalty {penalty:g}",
            cost=cost,
            d_ntp=divergence,
        )
        for (layer, penalty, edits), divergence in zip(made, divergences, strict=True)
    ]


def ridge_maps(
    plain: Float[Tensor, "prompt d_model"],
    shown: Float[Tensor, "prompt d_model"],
    penalties: Sequence[float],
) -> list[RidgeMap]:
    """For each penalty λ the W that minimises Σ |W h - (h_ICL - h)|² + λ |W|², h scaled to RMS 1.

    Args:
        plain: h, the zero-shot states.
        shown: h_ICL, of the same queries behind demonstrations.
        penalties: λ.
    """
    rms = plain.square().mean().sqrt()
    left, sizes, right = torch.linalg.svd(plain / rms, full_matrices=False)
    change = left.T @ (shown - plain)
    return [
        RidgeMap(right=right.T, shrunk=sizes / (sizes.square() + penalty) / rms, change=change)
        for penalty in penalties
    ]


def _edits(
    context: RunContext, layer: int, ridge: RidgeMap
) -> Callable[[Sequence[Prompt]], Branch]:
    def edits(prompts: Sequence[Prompt]) -> Branch:
        change = ridge(context.states(prompts)[layer + 1])
        return (Edit(layer=layer, value=change.unsqueeze(1)),)

    return edits


def _divergences(
    context: RunContext, candidates: Sequence[Callable[[Sequence[Prompt]], Branch]]
) -> list[float]:
    """d_NTP of some edits on the validation split."""
    prompts = context.prompts("validation")
    model = context.model
    budget = resolve_budget(context.memory, model.device)
    step = prompts_that_fit(model, shape_of(prompts, (-1,), n_branches=len(candidates)), budget)
    parts = []
    for start in range(0, len(prompts), step):
        chunk = prompts[start : start + step]
        with torch.no_grad():
            states = Trunk.build(model, chunk).run([edits(chunk) for edits in candidates])
        parts.append(states[:, :, 0])  # a suffix begins at the last token
    edited = torch.cat(parts)
    shown = context.last_states("validation", context.shots)[-1]
    first = {prompt.answer_ids[0] for prompt in context.prompts("train")}
    tokens = torch.tensor(sorted(first))
    return [
        next_token_divergence(model, shown, edited[:, index], tokens)
        for index in range(len(candidates))
    ]


def _plan(context: RunContext, config: Linear) -> Plan:
    n_layers = context.model.n_layers
    groups = layer_groups(context.model, config.layers or (n_layers - 1,), each_layer=True)
    joins = tuple(layer for (layer,) in groups for _ in config.penalties)
    reads = (
        *(read_work(context, "train", shots, config.n_queries) for shots in (0, context.shots)),
        *(read_work(context, "validation", shots) for shots in (0, context.shots)),
        read_work(context, "test", 0),
    )
    asked = context.prompts("validation")
    divergence = replace(work_of("divergence", asked, (-1,), joins, n_layers), rows=0.0)
    return Plan(found=(*reads, divergence), joins=joins)


METHODS.register(
    Method(
        config=Linear,
        find=linear,
        plan=_plan,
        title="Linear map",
        summary="ridge map from the zero-shot state to what demonstrations change, added",
        papers=(
            Paper(
                "Kwon, Choi, Sohn",
                2026,
                "Distributional Alignment as a Criterion for Designing Task Vectors in In-Context "
                "Learning",
                "https://arxiv.org/abs/2605.20730",
            ),
        ),
        fails="At the last block it reaches only the first token of an answer, and with fewer "
        "queries than dimensions it says nothing outside their span.",
        gives_vector=False,
        quick={"penalties": (5.0,), "n_queries": 4},
    )
)
