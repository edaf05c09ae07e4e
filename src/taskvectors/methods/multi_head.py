"""`multi-head`: mean outputs of chosen heads, put in the place of the heads' own.

Which heads is learned without a gradient through the model: each head has a probability of being
replaced, sets of heads are drawn, and what lowers the loss becomes more probable (REINFORCE). The
draws of a step are branches of one trunk.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.head_means import HeadMeans, head_means
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work, training_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training import Merit, PeakMemory, TrainingTrunks
from taskvectors.methods.training.recipe import OwnTraining
from taskvectors.methods.training.trunks import Batches
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit
from taskvectors.vectors import Site


class MultiHead(OwnTraining):
    """Heads chosen by policy gradient, replaced by their means at the last token."""

    kind: Literal["multi-head"] = "multi-head"
    n_prompts: int = Field(default=100, ge=1)
    """Most training prompts that the heads' means are over."""
    steps: int = Field(default=100, ge=1)
    """Most steps of the search."""
    batch_size: int = Field(default=16, ge=1)
    """Prompts per step."""
    n_samples: int = Field(default=8, ge=2)
    """Sets of heads that are drawn and compared in a step."""
    learning_rate: float = Field(default=0.2, gt=0)
    """Of Adam, on the logits of the heads' probabilities."""
    start: float = Field(default=0.25, gt=0, lt=1)
    """Probability of each head before the first step."""
    patience: int | None = Field(default=4, ge=1)
    """Checks without improvement after which the search stops; never if None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One step of the search."""

    probability: Float[Tensor, "layer head"]
    """Of each head, after the step."""
    best: Bool[Tensor, "layer head"]
    """The set with the lowest loss of those drawn."""
    loss: float
    """Mean over the sets drawn."""


def multi_head(context: RunContext, config: MultiHead) -> list[Candidate]:
    """One candidate: the set of heads that was best on validation.

    Source: Huang et al. (2024), https://arxiv.org/abs/2406.15334. Draws are compared
        with each other, as in the released code. We differ: text prompts; at each look both the
        heads with a probability above one half and the best set just drawn are tried on validation.
    """
    means = head_means(context, config.n_prompts)
    prompts = context.prompts("train")[: config.n_examples]
    started = context.trunks.clock()
    with PeakMemory(context.model.device, context.trunks) as peak:
        trunks = TrainingTrunks.build(
            context,
            prompts,
            context.prompts("validation"),
            n_branches=config.n_samples,
            batch_size=config.batch_size,
            needs_gradient=False,
        )
        before = context.trunks.clock() - started
        found = _search(trunks, means, config, context.seed)
    branch = replaced_heads(means, found.heads)
    n_runs = found.steps * config.n_samples * min(config.batch_size, len(prompts))
    cost = Cost(
        examples=len(context.task.train),
        steps=found.steps,
        seconds=means.seconds + before + found.seconds,
        seconds_per_step=found.seconds / found.steps,
        peak_bytes=peak.bytes,
        forward_tokens=means.forward_tokens + trunks.tokens(branch, n_runs, len(found.curve)),
        parameters=found.heads.numel(),
    )

    def edits(_: Sequence[Prompt]) -> Branch:
        return branch

    layers = dict.fromkeys(edit.layer for edit in branch)
    return [
        Candidate(
            method=config.kind,
            edits=edits,
            edited=tuple(Site(layer=layer, position=-1, component="z") for layer in layers),
            configuration=f"{int(found.heads.sum())} heads replaced",
            cost=cost,
            converged=found.converged,
            curve=found.curve,
        )
    ]


def replaced_heads(means: HeadMeans, heads: Bool[Tensor, "layer head"]) -> list[Edit]:
    """Some heads replaced by their means, at the last token."""
    return [
        Edit(layer=layer, component="z", head=head, operation="replace", value=means.z[layer, head])
        for layer, head in heads.nonzero().tolist()
    ]


def reinforce(
    losses_of: Callable[[Bool[Tensor, "sample layer head"]], Float[Tensor, " sample"]],
    shape: tuple[int, int],
    config: MultiHead,
    generator: torch.Generator,
) -> Iterator[Drawn]:
    """Sets of heads that lower a loss, step by step without end.

    Args:
        losses_of: The loss of each set of heads, on prompts that are the same within a call.
        shape: Layers and heads.
        config: Samples, start and learning rate.
        generator: Draws the sets.
    """
    logits = torch.full(shape, config.start).logit()
    logits.requires_grad_(True)
    optimizer = torch.optim.Adam([logits], lr=config.learning_rate)
    while True:
        with torch.no_grad():
            draws = torch.rand(config.n_samples, *shape, generator=generator)
            sets = draws < logits.sigmoid()
            losses = losses_of(sets).cpu()
        advantage = losses.mean() - losses
        advantage = advantage / advantage.std().clamp(min=1e-8)  # losses have any scale
        with torch.enable_grad():
            log_probability = torch.where(sets, logsigmoid(logits), logsigmoid(-logits))
            objective = (advantage * log_probability.sum(dim=(1, 2))).mean()
            optimizer.zero_grad()
            (-objective).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield Drawn(
            probability=logits.detach().sigmoid(),
            best=sets[int(losses.argmin())],
            loss=float(losses.mean()),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    heads: Bool[Tensor, "layer head"]
    steps: int
    seconds: float
    converged: bool
    curve: list[dict[str, float]]


def _search(trunks: TrainingTrunks, means: HeadMeans, config: MultiHead, seed: int) -> _Found:
    started = time.perf_counter()
    batches = Batches(trunks.train, config.batch_size, seed)

    def losses_of(sets: Tensor) -> Tensor:
        batch = batches.draw()
        states = trunks.train.run([replaced_heads(means, heads) for heads in sets], batch)
        return trunks.train.answer_losses(states, batch)

    generator = torch.Generator().manual_seed(seed)
    shape = (means.z.shape[0], means.z.shape[1])
    nothing = torch.zeros(shape, dtype=torch.bool)
    (plain,) = trunks.merits([()])
    best: tuple[Merit, Tensor] = (plain, nothing)
    curve: list[dict[str, float]] = []
    waited, step, converged = 0, 0, False
    for step, drawn in enumerate(reinforce(losses_of, shape, config, generator), start=1):
        if step % config.check_every == 0 or step == config.steps:
            tried = (drawn.probability > 0.5, drawn.best)
            merits = trunks.merits([replaced_heads(means, heads) for heads in tried])
            merit, heads = max(zip(merits, tried, strict=True), key=lambda one: one[0])
            waited += 1
            if merit > best[0]:
                best, waited = (merit, heads), 0
            point = {"validation_accuracy": merit[0], "validation_logprob": merit[1]}
            curve.append({"step": step, "loss": drawn.loss} | point)
        converged = config.patience is not None and waited >= config.patience
        if converged or step == config.steps:
            break
    return _Found(
        heads=best[1],
        steps=step,
        seconds=time.perf_counter() - started,
        converged=converged,
        curve=curve,
    )


def _plan(context: RunContext, config: MultiHead) -> Plan:
    """Sets of heads begin in the first block, as nearly all that are drawn do."""
    prompts = (context.prompts("train")[: config.n_examples], context.prompts("validation"))
    read = read_work(context, "train", context.shots, config.n_prompts)
    steps, checks = training_work(
        context, config, prompts, (-1,), (-1,) * config.n_samples, is_training=False
    )
    share = 2 / config.n_samples  # the probable heads, and the best set that was drawn
    tried = replace(checks, blocks=round(share * checks.blocks), rows=share * checks.rows)
    return Plan(found=(read, steps, tried), joins=(-1,))


METHODS.register(
    Method(
        config=MultiHead,
        find=multi_head,
        plan=_plan,
        title="Replaced heads",
        summary="mean outputs of heads that a policy gradient chooses, replacing the heads' own",
        papers=(
            Paper(
                "Huang, Mitra, Arbelle, Karlinsky, Darrell, Herzig",
                2024,
                "Multimodal Task Vectors Enable Many-Shot Multimodal In-Context Learning",
                "https://arxiv.org/abs/2406.15334",
            ),
        ),
        fails="A step compares a few sets of heads on a few prompts, so with many heads of small "
        "effect the search is noisy; a replaced head loses what it carried about the query.",
        gives_vector=False,
        quick={"steps": 2, "batch_size": 4, "n_samples": 2, "n_prompts": 4},
    )
)
