"""Indirect effects: which heads bring the task back when the labels shown are shuffled.

The prompts have demonstrations with answers of other inputs, so they say little about the task. One
head at a time is given, at the last token, its mean output behind true demonstrations, and the
effect is what that adds to the probability of the right answer's first token. Exactly, every head
of every layer is a branch of its own over one trunk of the prompts; to first order, one forward and
backward pass gives all of them.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from taskvectors.methods.shared.head_means import HeadMeans, head_means
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import Component, LanguageModel
from taskvectors.models.tensors import require_finite
from taskvectors.models.unembedding import token_losses
from taskvectors.prompts import Prompt, build_prompts
from taskvectors.tasks import Example
from taskvectors.trunk import Batch, Branch, Edit, Trunk, prompts_that_fit, resolve_budget, shape_of

logger = logging.getLogger(__name__)

HowFound = Literal["exact", "attributed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class IndirectEffects:
    """Effects of all heads on some prompts."""

    by_prompt: Float[Tensor, "prompt layer head"]
    """Change in the probability of the right answer's first token."""
    n_known: int
    """Prompts whose true few-shot version the model answers rightly (first token)."""
    forward_tokens: int
    seconds: float

    @property
    def average(self) -> Float[Tensor, "layer head"]:
        """The mean over prompts (AIE)."""
        return self.by_prompt.mean(dim=0)


def indirect_effects(
    context: RunContext, how: HowFound, *, n_prompts: int, n_means: int
) -> IndirectEffects:
    """Effects of all heads on label-shuffled training prompts; worked out once per context.

    Args:
        context: Model and task.
        how: `exact`, or `attributed` to first order.
        n_prompts: Label-shuffled prompts.
        n_means: Most prompts that the heads' means are over.
    """
    key = ("indirect effects", how, n_prompts, n_means)
    return context.cached(
        key, lambda: _effects(context, how, n_prompts, head_means(context, n_means))
    )


def _effects(
    context: RunContext, how: HowFound, n_prompts: int, means: HeadMeans
) -> IndirectEffects:
    shuffled = context.cached(
        ("label-shuffled", n_prompts, means.n_prompts),
        lambda: _Shuffled.of(context, n_prompts, means.n_prompts),
    )
    started = time.perf_counter()
    work = exact_effects if how == "exact" else attributed_effects
    effects, tokens = work(shuffled.trunk, means.z, memory=context.memory)
    return IndirectEffects(
        by_prompt=effects,
        n_known=shuffled.n_known,
        forward_tokens=tokens,
        seconds=shuffled.seconds + time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shuffled:
    """Label-shuffled prompts, run once for both kinds of effects."""

    trunk: Trunk
    n_known: int
    seconds: float

    @classmethod
    def of(cls, context: RunContext, n_prompts: int, n_read: int) -> "_Shuffled":
        started = time.perf_counter()
        prompts, n_known = label_shuffled_prompts(context, n_prompts, n_read)
        trunk = first_token_trunk(context.model, prompts, memory=context.memory)
        return cls(trunk=trunk, n_known=n_known, seconds=time.perf_counter() - started)


def label_shuffled_prompts(
    context: RunContext, most: int, n_read: int
) -> tuple[tuple[Prompt, ...], int]:
    """Training queries behind the same demonstrations as ever, with answers of other inputs.

    Queries that the model answers rightly behind true demonstrations come first: where it does not
    know the answer anyway, no head can bring it back.

    Args:
        context: Model and task.
        most: Most prompts.
        n_read: Training prompts to take them from, the first ones.

    Returns:
        The prompts, and how many of them have a query that the model knows.
    """
    model = context.model
    asked = context.prompts("train", context.shots)[:n_read]
    final = model.final_state(
        context.last_states("train", context.shots, n_read)[-1].to(model.dtype)
    )
    with torch.no_grad():
        best = [int(model.unembedding.logits(state).argmax()) for state in final]
    knows = [token == prompt.answer_ids[0] for token, prompt in zip(best, asked, strict=True)]
    chosen = sorted(range(len(asked)), key=lambda index: not knows[index])[:most]
    n_known = sum(knows[index] for index in chosen)
    if n_known < len(chosen):
        logger.warning(
            "%d of the %d prompts that indirect effects are measured on have a query that the "
            "model does not answer rightly even with true demonstrations",
            len(chosen) - n_known,
            len(chosen),
        )
    prompts = shuffled_labels(context, [asked[index].query for index in chosen])
    return prompts, n_known


def shuffled_labels(context: RunContext, queries: Sequence[Example]) -> tuple[Prompt, ...]:
    """Prompts of some pairs whose demonstrations have the answers of other training inputs.

    The inputs shown are those that the context shows with true answers.
    """
    return build_prompts(
        context.model.tokenizer,
        context.template,
        queries,
        demonstrations=context.task.shuffled(context.seed).train,
        shots=context.shots,
        seed=context.seed,
        max_tokens=context.model.context_length,
        chat=context.chat,
    )


def first_token_trunk(
    model: LanguageModel, prompts: Sequence[Prompt], *, memory: int | None = None
) -> Trunk:
    """The trunk of some prompts, asked for the first token of their answers; heads are read.

    Args:
        model: The model.
        prompts: The prompts.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        MemoryBudgetError: Not even one prompt fits the budget.
    """
    asked = [replace(prompt, answer_ids=prompt.answer_ids[:1]) for prompt in prompts]
    budget = resolve_budget(memory, model.device)
    step = prompts_that_fit(model, shape_of(asked, (-1,), n_branches=0), budget)
    return Trunk.build(model, asked, sites=_z_sites(model), rows_per_pass=step)


def exact_effects(
    trunk: Trunk, means: Float[Tensor, "layer head d_head"], *, memory: int | None = None
) -> tuple[Float[Tensor, "prompt layer head"], int]:
    """Effect of each head by patching it, and the tokens that it took, the trunk's included.

    Args:
        trunk: Of label-shuffled prompts, with answers of one token.
        means: What each head is given.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        MemoryBudgetError: One prompt with all heads does not fit the budget.
    """
    shape = means.shape[:2]
    plain: Branch = ()
    branches = [plain] + [
        [Edit(layer=layer, component="z", head=head, operation="replace", value=means[layer, head])]
        for layer in range(shape[0])
        for head in range(shape[1])
    ]
    parts = []
    for rows in _chunks(trunk, memory, n_branches=len(branches)):
        batch = _batch(trunk, rows)
        with torch.no_grad():
            found = trunk.answer_scores(trunk.run(branches, batch), batch)
        require_finite(found.log_probability, "log-probabilities of answers")
        probability = found.log_probability[:, :, 0].exp()
        parts.append((probability[:, 1:] - probability[:, :1]).view(-1, *shape))
    return torch.cat(parts).cpu(), trunk.tokens_run(branches)


def attributed_effects(
    trunk: Trunk, means: Float[Tensor, "layer head d_head"], *, memory: int | None = None
) -> tuple[Float[Tensor, "prompt layer head"], int]:
    """Effect of each head to first order, (mean - z) · ∂p/∂z, and the tokens that it took.

    Args:
        trunk: Of label-shuffled prompts, with answers of one token and every z read.
        means: What each head would be given.
        memory: Budget in bytes; a share of what is free by default.

    Raises:
        MemoryBudgetError: One prompt does not fit the budget.
    """
    z = torch.stack([trunk.read(*site).float() for site in _z_sites(trunk.model)], dim=1)
    chunks = _chunks(trunk, memory, n_branches=1, is_training=True)
    slope = torch.cat([_slopes(trunk, rows, z) for rows in chunks])
    gap = rearrange(means.to(z.device), "layer head d -> layer 1 (head d)") - z
    by_head = rearrange(
        gap * slope, "prompt layer 1 (head d) -> prompt layer head d", head=means.shape[1]
    )
    return by_head.sum(dim=-1).cpu(), trunk.tokens_run(()) + trunk.n_prompts


def _z_sites(model: LanguageModel) -> list[tuple[int, Component]]:
    return [(layer, "z") for layer in range(model.n_layers)]


def _chunks(
    trunk: Trunk, memory: int | None, *, n_branches: int, is_training: bool = False
) -> Iterator[slice]:
    """All prompts of a trunk in order, as many at a time as fit the budget."""
    prompts = trunk.cut.prompts
    shape = shape_of(prompts, (-1,), n_branches=n_branches, is_training=is_training)
    step = prompts_that_fit(trunk.model, shape, resolve_budget(memory, trunk.model.device))
    for start in range(0, len(prompts), step):
        yield slice(start, start + step)


def _batch(trunk: Trunk, rows: slice) -> Batch:
    """Some prompts; where they are all of them, nothing is copied."""
    chosen = range(trunk.n_prompts)[rows]
    return trunk.batch(None if len(chosen) == trunk.n_prompts else chosen)


def _slopes(
    trunk: Trunk, rows: slice, z: Float[Tensor, "prompt layer 1 width"]
) -> Float[Tensor, "row layer 1 width"]:
    """∂p/∂z of every layer for some prompts, from one branch that adds nothing to every z."""
    batch = _batch(trunk, rows)
    with torch.enable_grad():
        nothing = torch.zeros_like(z, requires_grad=True)
        edits = [
            Edit(layer=layer, component="z", value=nothing[:, layer]) for layer in range(z.shape[1])
        ]
        read = trunk.answer_states(trunk.run([edits], batch), batch).flatten(0, 1)
        losses = token_losses(trunk.model.unembedding, trunk.model.read_state(read), batch.targets)
        (gradient,) = torch.autograd.grad(losses.sum(), nothing)
    # ∂p = p ∂(log p)
    slope: Tensor = -losses.detach().neg().exp().view(-1, 1, 1, 1) * gradient[rows]
    return slope


def rank_correlation(one: Float[Tensor, " _"], other: Float[Tensor, " _"]) -> float:
    """Spearman's correlation; equal values share their mean rank, and a constant gives 0.

    Example:
        >>> round(rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([5.0, 6.0, 7.0])), 6)
        1.0
    """
    ranks = [
        (values[:, None] > values).double().sum(dim=1)
        + (values[:, None] == values).double().sum(dim=1) / 2
        for values in (one, other)
    ]
    centred = torch.stack([rank - rank.mean() for rank in ranks])
    norms = centred.norm(dim=1).prod()
    return float((centred.prod(dim=0).sum() / norms).clamp(-1, 1)) if norms else 0.0
