"""`learned-heads`: the mean results of all heads, each with a learned weight, added at every layer.

What is learned is one number per head, Φ. The vector at layer l is Σ_h Φ[l, h] · result[l, h], with
the mean results behind demonstrations; the vectors of all layers are added together.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.head_means import head_means
from taskvectors.methods.indirect_effect import shuffled_labels
from taskvectors.methods.peak import PeakMemory
from taskvectors.methods.rehearsal import Merit, Rehearsal
from taskvectors.methods.run_context import Positions, RunContext
from taskvectors.trunk import Edit, Position
from taskvectors.vectors import TaskVector, sites_at


class LearnedHeads(BaseModel):
    """One learned weight per head, on the heads' mean results."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["learned-heads"] = "learned-heads"
    positions: Positions = (-1,)
    """Where the vectors of all layers are added; heads are always read at the last token."""
    trained_on: Literal["zero-shot", "shuffled-labels"] = "zero-shot"
    """Training prompts: without demonstrations, as it is used, or with shuffled labels."""
    n_examples: int | None = Field(default=None, ge=1)
    """Training pairs to use; all by default."""
    n_prompts: int = Field(default=100, ge=1)
    """Most training prompts that the heads' means are over."""
    steps: int = Field(default=100, ge=1)
    """Most gradient steps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per step."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Of Adam, on the weights."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the weights' normal start."""
    check_every: int = Field(default=10, ge=1)
    """Steps between looks at the validation split."""
    patience: int = Field(default=3, ge=1)
    """Looks without improvement after which it stops."""


def learned_heads(context: RunContext, config: LearnedHeads) -> list[Candidate]:
    """One candidate: the vectors of all layers together.

    Raises:
        TaskVectorsError: The first gradient is zero or not finite.

    Source: Saglam et al. (2025), https://arxiv.org/abs/2502.05390. We differ: the released code
        projects the mean of all heads with W_O and then scales slices of the d_model-wide result,
        which are not heads; here each head's own result is weighted, that is, its weight acts
        before W_O. The means are over fixed prompts, training is by default on prompts without
        demonstrations, and the weights of the best validation check are kept.
    """
    means = head_means(context, config.n_prompts)
    started = context.trunks.clock()
    prompts = context.prompts("train")[: config.n_examples]
    if config.trained_on == "shuffled-labels":
        prompts = shuffled_labels(context, [prompt.query for prompt in prompts])
    with PeakMemory(context.model.device, context.trunks) as peak:
        rehearsal = Rehearsal.build(
            context, prompts, config.positions, n_branches=1, is_training=True
        )
        before = context.trunks.clock() - started
        trained = _train(rehearsal, means.results, config, context.seed)
    cost = Cost(
        examples=len(context.task.train),
        steps=trained.steps,
        seconds=means.seconds + before + trained.seconds,
        seconds_per_step=trained.seconds / trained.steps,
        peak_bytes=peak.bytes,
        forward_tokens=means.forward_tokens
        + rehearsal.tokens(
            _edits(trained.weights, means.results, config.positions),
            trained.steps * min(config.batch_size, len(prompts)),
            len(trained.curve),
        ),
        parameters=trained.weights.numel(),
    )
    sites = sites_at(range(context.model.n_layers), config.positions)
    values = weighted_results(trained.weights, means.results)[[site.layer for site in sites]]
    origin = context.origin(
        config.kind,
        shots=context.shots,
        settings=config.model_dump(exclude={"kind", "positions"})
        | {"weights": trained.weights.tolist()},
        scores={"validation_accuracy": trained.merit[0]},
    )
    vector = TaskVector(values=values.cpu(), sites=sites, operation="add", origin=origin)
    return [
        Candidate(
            method=config.kind,
            vector=vector,
            configuration=f"all layers, trained on {config.trained_on} prompts",
            cost=cost,
            converged=trained.converged,
            curve=trained.curve,
        )
    ]


def weighted_results(
    weights: Float[Tensor, "layer head"], results: Float[Tensor, "layer head d_model"]
) -> Float[Tensor, "layer d_model"]:
    """The vector of each layer."""
    return einsum(weights, results, "layer head, layer head d_model -> layer d_model")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trained:
    weights: Float[Tensor, "layer head"]
    merit: Merit
    steps: int
    seconds: float
    converged: bool
    curve: list[dict[str, float]]


def _edits(weights: Tensor, results: Tensor, positions: tuple[Position, ...]) -> list[Edit]:
    return [
        Edit(layer=layer, positions=(place,), value=value)
        for layer, value in enumerate(weighted_results(weights, results))
        for place in positions
    ]


def _train(rehearsal: Rehearsal, results: Tensor, config: LearnedHeads, seed: int) -> _Trained:
    """The weights as they were at their best validation check."""
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(results.shape[:2], generator=generator) * config.start
    weights = start.to(results.device).requires_grad_(True)
    optimizer = torch.optim.Adam([weights], lr=config.learning_rate)
    batches = rehearsal.batches(config.batch_size, seed)
    best: tuple[Merit, Tensor] = ((-1.0, -torch.inf), weights.detach().clone())
    curve: list[dict[str, float]] = []
    waited, step = 0, 0
    while step < config.steps and waited < config.patience:
        step += 1
        batch = next(batches)
        optimizer.zero_grad()
        with torch.enable_grad():
            states = rehearsal.trunk.run([_edits(weights, results, config.positions)], batch)
            loss = rehearsal.trunk.answer_losses(states, batch).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        if step == 1:
            _check_gradient(weights)
        optimizer.step()
        if step % config.check_every == 0 or step == config.steps:
            now = weights.detach().clone()
            (merit,) = rehearsal.merits([_edits(now, results, config.positions)])
            waited += 1
            if merit > best[0]:
                best, waited = (merit, now), 0
            point = {"validation_accuracy": merit[0], "validation_logprob": merit[1]}
            curve.append({"step": step, "loss": float(loss.detach())} | point)
    return _Trained(
        weights=best[1],
        merit=best[0],
        steps=step,
        seconds=time.perf_counter() - started,
        converged=waited >= config.patience,
        curve=curve,
    )


def _check_gradient(weights: Tensor) -> None:
    assert weights.grad is not None
    norm = float(weights.grad.norm())
    if not 0 < norm < float("inf"):
        raise TaskVectorsError(
            f"the gradient of the heads' weights is {norm} on the first step: nothing can be "
            "learned at these positions; choose others"
        )
