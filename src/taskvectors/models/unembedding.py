"""From the last state to the vocabulary, a slice of the vocabulary at a time.

Once the blocks are cheap, the unembedding is most of a step: a Gemma 3 row has 262,144 logits. The
logits are therefore never held whole. One walk over slices of the vocabulary keeps a running
maximum, sum and arg-max, and, when a gradient is wanted, the running sum of p·W_U, rescaled as the
total grows: the gradient is formed in the forward pass and the backward pass only scales it. The
weights are frozen.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VOCABULARY_SLICE = 4096
"""Tokens per slice: on 2 CPU cores 4,096 x 1,000 rows of bfloat16 logits stay in cache, and the
matrix products run as fast as with larger slices."""


@dataclass(frozen=True, kw_only=True)
class Unembedding:
    """The frozen last linear map of a model, and what it does to its logits."""

    weight: Float[Tensor, "d_vocab d_state"]
    bias: Float[Tensor, " d_vocab"] | None
    softcap: float | None

    def logits(self, state: Float[Tensor, "... d_state"]) -> Float[Tensor, "... d_vocab"]:
        """All logits of some states; for few rows only, since nothing is sliced."""
        logits = torch.nn.functional.linear(state.contiguous(), self.weight, self.bias)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def columns(
        self, state: Float[Tensor, "row d_state"], tokens: Int[Tensor, "row choice"]
    ) -> Float[Tensor, "row choice"]:
        """Logits of a few tokens per row, in float32."""
        logits = torch.einsum("rd,rcd->rc", state.float(), self.weight[tokens].float())
        if self.bias is not None:
            logits = logits + self.bias[tokens].float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def rows(self, tokens: Int[Tensor, " listed"]) -> "Unembedding":
        """The map to some tokens only; a copy."""
        bias = None if self.bias is None else self.bias[tokens]
        return replace(self, weight=self.weight[tokens], bias=bias)


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """What the vocabulary says about one target token per row."""

    log_probability: Float[Tensor, " row"]
    """Of the target, float32, over the full vocabulary."""
    best: Int[Tensor, " row"]
    """The arg-max token."""
    normalizer: Float[Tensor, " row"]
    """log of the sum of exponentiated logits."""


def score_tokens(
    unembedding: Unembedding,
    state: Float[Tensor, "row d_state"],
    targets: Int[Tensor, " row"],
    *,
    bias: Float[Tensor, " d_vocab"] | None = None,
    has_bias: Bool[Tensor, " row"] | None = None,
) -> TokenScores:
    """One target's log-probability and the full vocabulary's arg-max, row by row.

    Args:
        unembedding: The model's last linear map.
        state: States after the final norm.
        targets: One token per row.
        bias: A constant added to the logits (the logit-bias control).
        has_bias: To which rows it is added; all by default.
    """
    with torch.no_grad():
        added = None
        if bias is not None:
            added = bias.unsqueeze(0) if has_bias is None else has_bias.unsqueeze(1) * bias
        walk = _walk(unembedding, state.detach().contiguous(), targets, wanted="best", bias=added)
    assert walk.best is not None
    return TokenScores(
        log_probability=walk.target - walk.normalizer, best=walk.best, normalizer=walk.normalizer
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftTargets:
    """Next-token distributions to be close to, held as the states that they come from.

    One of them can stand for several rows that follow each other (branches of one prompt).
    """

    state: Float[Tensor, "read d_state"]
    """States after the final norm."""
    normalizer: Float[Tensor, " read"]
    """log of the sum of their exponentiated logits."""
    mean_row: Float[Tensor, "read d_state"] | None
    """Mean under p of W_U's rows, float32; None with a soft-cap, where it is not enough."""
    share: float
    """Of the divergence in the loss, from 0 to 1; the rest is cross-entropy."""

    @classmethod
    def of(
        cls, unembedding: Unembedding, state: Float[Tensor, "read d_state"], share: float
    ) -> "SoftTargets":
        """The distributions of some states over the tokens of an unembedding."""
        wanted: _Wanted = "mean row" if unembedding.softcap is None else "loss"
        targets = torch.zeros(len(state), dtype=torch.long, device=state.device)
        with torch.no_grad():
            walk = _walk(unembedding, state.contiguous(), targets, wanted=wanted, bias=None)
        return cls(state=state, normalizer=walk.normalizer, mean_row=walk.mean_row, share=share)

    def over(self, unembedding: Unembedding) -> "SoftTargets":
        """The same states' distributions over the tokens of an unembedding."""
        return SoftTargets.of(unembedding, self.state, self.share)

    def each(self, values: Float[Tensor, "read ..."], n_rows: int) -> Float[Tensor, "row ..."]:
        """What every row has of something that every read has."""
        return values.repeat_interleave(n_rows // len(values), dim=0)

    def away_from(self, state: Float[Tensor, "row d_state"]) -> Float[Tensor, " row"]:
        """Mean under p of log p minus a row's logits: a product of states where logits are linear.

        In half precision the two logits are not rounded here as the normalizers' are, so it is off
        by some hundredths of a nat.
        """
        assert self.mean_row is not None
        own, mean = (self.each(held.float(), len(state)) for held in (self.state, self.mean_row))
        return ((own - state) * mean).sum(dim=1) - self.each(self.normalizer, len(state))


def token_losses(
    unembedding: Unembedding,
    state: Float[Tensor, "row d_state"],
    targets: Int[Tensor, " row"],
    soft: SoftTargets | None = None,
) -> Float[Tensor, " row"]:
    """Cross-entropy of one target per row, in float32, differentiable in the state only.

    With soft targets p it is (1 - share) of that and share of KL(p || the row's distribution).
    """
    losses: Tensor = _SlicedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        state.contiguous(), unembedding, targets, soft
    )
    return losses


@dataclass(frozen=True, kw_only=True)
class LossesSeen:
    """Losses as of `token_losses`, without gradient, and what the rows say of other tokens."""

    losses: Float[Tensor, " row"]
    normalizer: Float[Tensor, " row"]
    """log of the sum of exponentiated logits."""
    highest: Float[Tensor, " d_vocab"] | None
    """At least the highest probability that any row gives to each token, where it was asked for;
    rounded as the logits are."""


def losses_seen(
    unembedding: Unembedding,
    state: Float[Tensor, "row d_state"],
    targets: Int[Tensor, " row"],
    soft: SoftTargets | None = None,
    *,
    lower: Float[Tensor, " row"] | None = None,
) -> LossesSeen:
    """Losses of some rows, in one walk.

    Args:
        unembedding: The model's last linear map, or that to some tokens.
        state: States after the final norm.
        targets: One token per row.
        soft: As in `token_losses`.
        lower: Normalizers that are not above the rows' own, such as those over some of the tokens.
            Each token's highest probability is taken by them, and so is not too low.
    """
    is_known = soft is not None and soft.mean_row is not None
    walked = None if is_known else soft
    with torch.no_grad():
        state = state.contiguous()
        walk = _walk(
            unembedding, state, targets, wanted="loss", bias=None, soft=walked, lower=lower
        )
        losses = walk.losses(soft, soft.away_from(state) if is_known and soft else walk.away)
    return LossesSeen(losses=losses, normalizer=walk.normalizer, highest=walk.highest)


class _SlicedCrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradient with respect to the state is made in the forward pass."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        state: Tensor,
        unembedding: Unembedding,
        targets: Tensor,
        soft: SoftTargets | None,
    ) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        wanted: _Wanted = "mean row" if needs_gradient else "loss"
        # the mean row saves the walk, but not the rounding of half-precision logits
        is_known = needs_gradient and soft is not None and soft.mean_row is not None
        walked = None if is_known else soft
        walk = _walk(unembedding, state, targets, wanted=wanted, bias=None, soft=walked)
        if walk.mean_row is not None:
            rows = _wanted_rows(unembedding, targets, walk, soft)
            ctx.save_for_backward((walk.mean_row - rows).to(state.dtype))
        return walk.losses(soft, soft.away_from(state) if is_known and soft else walk.away)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, upstream: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (gradient * upstream.unsqueeze(1)).to(gradient.dtype), None, None, None


_Wanted = Literal["loss", "best", "mean row"]


@dataclass(frozen=True, kw_only=True)
class _Walk:
    target: Tensor
    normalizer: Tensor
    best: Tensor | None
    mean_row: Tensor | None
    """Mean slope of the logits, under the row's distribution: that of W_U's rows, capped."""
    away: Tensor
    """Mean under the soft targets p of log p minus the row's logits; zeros without them."""
    pull: Tensor | None
    """Mean slope of the logits under the soft targets."""
    highest: Tensor | None
    """See `LossesSeen`."""

    def losses(self, soft: SoftTargets | None, away: Tensor) -> Tensor:
        loss = self.normalizer - self.target
        if soft is None:
            return loss
        divergence = self.normalizer + away  # log of p over the row's distribution, under p
        return (1 - soft.share) * loss + soft.share * divergence


def _walk(  # noqa: PLR0913  (what a row is scored by, and what is wanted of it)
    unembedding: Unembedding,
    state: Tensor,
    targets: Tensor,
    *,
    wanted: _Wanted,
    bias: Tensor | None,
    soft: SoftTargets | None = None,
    lower: Tensor | None = None,
) -> _Walk:
    """One pass over the vocabulary; all running values are float32, one per row.

    The passes over a slice's logits cost as much as a matrix product, so there are few of them: the
    arg-max is found only where it is wanted, and the exponentials are made in place. They are taken
    relative to the normalizer so far, or the slice's maximum where that is larger, so that each is
    at least the token's probability.
    """
    rows, cap = state.shape[0], unembedding.softcap
    reference = state.new_full((rows,), -torch.inf, dtype=torch.float32)
    total, target = torch.zeros_like(reference), torch.zeros_like(reference)
    maximum, best = reference, torch.zeros_like(targets) if wanted == "best" else None
    expected = None
    if wanted == "mean row":
        expected = state.new_zeros(state.shape, dtype=torch.float32)
    pulled = None
    if soft is not None:
        pulled = _Pull.start(soft, state, with_gradient=expected is not None)
    memory, held = slice_memory(state), slice_memory(state, torch.float32)
    shift, highest = None if lower is None else lower.to(state.dtype).unsqueeze(1), []
    for start in range(0, unembedding.weight.shape[0], VOCABULARY_SLICE):
        weight = unembedding.weight[start : start + VOCABULARY_SLICE]
        logits = slice_logits(unembedding, state, weight, start, bias, memory)
        if best is None:
            top = logits.amax(dim=1).float()
        else:
            top, index = logits.max(dim=1)
            top = top.float()
            best = torch.where(top > maximum, index + start, best)
            maximum = torch.maximum(maximum, top)
        inside = (targets >= start) & (targets < start + weight.shape[0])
        chosen = logits.gather(
            1, (targets - start).clamp(0, weight.shape[0] - 1).unsqueeze(1)
        ).squeeze(1)
        target = torch.where(inside, chosen.float(), target)
        if pulled is not None:
            pulled.add(unembedding, logits, weight, start)
        raised = torch.maximum(reference + total.log(), top)
        shrink = torch.exp(reference - raised)
        # a copy also of float32 logits: the slope of the soft-cap needs them
        weights = held[: logits.numel()].view_as(logits)
        weights.copy_(logits).sub_(raised.unsqueeze(1)).exp_()
        total = total * shrink + weights.sum(dim=1)
        if expected is not None:
            if cap is not None:  # derivative of cap·tanh(x/cap)
                weights *= 1 - (logits.float() / cap) ** 2
            expected.mul_(shrink.unsqueeze(1)).add_(weights.to(weight.dtype) @ weight)
        if shift is not None:
            highest.append(logits.sub_(shift).amax(dim=0))
        reference = raised
    return _Walk(
        target=target,
        normalizer=reference + total.log(),
        best=best,
        mean_row=None if expected is None else expected / total.unsqueeze(1),
        away=torch.zeros_like(total) if pulled is None else pulled.away,
        pull=None if pulled is None else pulled.expected,
        highest=torch.cat(highest).float().exp() if highest else None,
    )


def _wanted_rows(
    unembedding: Unembedding, targets: Tensor, walk: _Walk, soft: SoftTargets | None
) -> Float[Tensor, "row d_state"]:
    """Slope of the logits that are to grow: the target's, or their mean under the soft targets."""
    rows = unembedding.weight[targets].float()
    if unembedding.softcap is not None:
        rows = rows * (1 - (walk.target / unembedding.softcap) ** 2).unsqueeze(1)
    if soft is None:
        return rows
    pull = walk.pull if soft.mean_row is None else soft.each(soft.mean_row, len(rows))
    assert pull is not None
    return (1 - soft.share) * rows + soft.share * pull


@dataclass(kw_only=True, eq=False)
class _Pull:
    """Running sums over slices of the vocabulary, under the soft targets p."""

    soft: SoftTargets
    away: Float[Tensor, " row"]
    """Of p times (log p minus the row's logits)."""
    expected: Float[Tensor, "row d_state"] | None
    """Of p times the slope of the row's logits; None where it is known, or nobody asks for it."""

    @classmethod
    def start(cls, soft: SoftTargets, state: Tensor, *, with_gradient: bool) -> "_Pull":
        return cls(
            soft=soft,
            away=state.new_zeros(state.shape[0], dtype=torch.float32),
            expected=state.new_zeros(state.shape, dtype=torch.float32) if with_gradient else None,
        )

    def add(self, unembedding: Unembedding, logits: Tensor, weight: Tensor, start: int) -> None:
        own = slice_memory(self.soft.state)
        theirs = slice_logits(unembedding, self.soft.state, weight, start, None, own).float()
        log_p = theirs - self.soft.normalizer.unsqueeze(1)
        p = log_p.exp()
        rows = logits.float().view(p.shape[0], -1, p.shape[1])  # [read, branch, slice]
        differences = (p * log_p).sum(dim=1, keepdim=True) - (rows @ p.unsqueeze(2)).squeeze(2)
        self.away += differences.flatten()
        if self.expected is not None:
            assert unembedding.softcap is not None
            slope = 1 - (rows / unembedding.softcap) ** 2
            pull = (p.unsqueeze(1) * slope).to(weight.dtype) @ weight
            self.expected += pull.flatten(0, 1)


def slice_memory(
    state: Float[Tensor, "row d_state"], dtype: torch.dtype | None = None
) -> Float[Tensor, " number"]:
    """Memory for the logits of one slice, used again for each.

    To ask the system for it anew took a third of the time of a walk on a CPU.
    """
    return state.new_empty(state.shape[0] * VOCABULARY_SLICE, dtype=dtype)


def slice_logits(
    unembedding: Unembedding,
    state: Tensor,
    weight: Tensor,
    start: int,
    bias: Tensor | None,
    memory: Tensor,
) -> Tensor:
    """Logits of one slice, in some memory."""
    end, cap = start + weight.shape[0], unembedding.softcap
    logits = memory[: state.shape[0] * weight.shape[0]].view(state.shape[0], weight.shape[0])
    torch.mm(state, weight.T, out=logits)
    if unembedding.bias is not None:
        logits += unembedding.bias[start:end]
    if cap is not None:
        logits.div_(cap).tanh_().mul_(cap)
    if bias is not None:
        logits += bias[:, start:end]
    return logits
