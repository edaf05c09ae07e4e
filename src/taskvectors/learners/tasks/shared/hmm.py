"""Hidden Markov models, many at once: the forward and backward recursions in log space.

Every model of a set has the same number of states and symbols. A step is a matrix product of
probabilities that were divided by their largest one, so nothing underflows however long the
sequence is. Nothing here draws; `ginc.py` does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HiddenMarkovModels:
    """Some hidden Markov models; float64 keeps long sequences exact."""

    start: Float[Tensor, "hmm state"]
    """Probability of each first state."""
    transition: Float[Tensor, "hmm state state"]
    """Probability of the next state (last axis) given this one."""
    emission: Float[Tensor, "hmm state symbol"]
    """Probability of each symbol in each state."""


def forward_states(
    models: HiddenMarkovModels,
    symbols: Int[Tensor, "batch pos"],
    log_start: Float[Tensor, "#batch hmm state"] | None = None,
) -> Iterator[Float[Tensor, "batch hmm state"]]:
    """The log joint probability of the symbols so far and the present state, position by position.

    Args:
        models: The models.
        symbols: What was emitted.
        log_start: Log weight of each first state, in place of the models' own; it need not be
            normalised, and may differ from sequence to sequence.

    Yields:
        log p(x_1..x_t, s_t | model) for t = 1, 2, ...

    Source: the forward algorithm, Rabiner (1989), https://doi.org/10.1109/5.18626. We differ: logs
        in place of scaling.
    """
    log_emission = models.emission.log()
    log_weight = models.start.log()[None] if log_start is None else log_start
    for position in range(symbols.shape[1]):
        if position:
            log_weight = _log_product(log_weight, models.transition)
        emitted = log_emission[:, :, symbols[:, position]]  # [hmm, state, batch]
        log_weight = log_weight + emitted.permute(2, 0, 1)
        yield log_weight


def log_evidence(
    models: HiddenMarkovModels,
    symbols: Int[Tensor, "batch pos"],
    log_start: Float[Tensor, "#batch hmm state"] | None = None,
) -> Float[Tensor, "batch hmm pos"]:
    """The log-probability of the first t symbols under each model, for each t.

    Args:
        models: The models.
        symbols: What was emitted.
        log_start: As in `forward_states`.
    """
    steps = forward_states(models, symbols, log_start)
    return torch.stack([states.logsumexp(dim=-1) for states in steps], dim=-1)


def next_symbol(
    models: HiddenMarkovModels, log_states: Float[Tensor, "batch hmm state"]
) -> Float[Tensor, "batch hmm symbol"]:
    """The log joint probability of all symbols so far and each possible next one."""
    return _log_product(_log_product(log_states, models.transition), models.emission)


def log_likelihood_by_start(
    models: HiddenMarkovModels, symbols: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch hmm state"]:
    """The log-probability of all symbols given the first state: the backward recursion."""
    log_emission = models.emission.log()
    backwards = models.transition.transpose(-1, -2)
    rest: Tensor | None = None
    for position in reversed(range(symbols.shape[1])):
        emitted = log_emission[:, :, symbols[:, position]].permute(2, 0, 1)
        rest = emitted if rest is None else emitted + _log_product(rest, backwards)
    assert rest is not None  # a sequence has at least one symbol
    return rest


def _log_product(
    log_weight: Float[Tensor, "batch hmm row"], matrix: Float[Tensor, "hmm row column"]
) -> Float[Tensor, "batch hmm column"]:
    """log(exp(log_weight) @ matrix), without underflow; log 0 stays log 0."""
    peak = log_weight.amax(dim=-1, keepdim=True)
    peak = peak.clamp(min=torch.finfo(peak.dtype).min)  # where all is log 0: -inf - -inf is NaN
    return torch.einsum("bhr,hrc->bhc", (log_weight - peak).exp(), matrix).log() + peak
