"""The sliced walk over the vocabulary gives what torch gives on whole logits.

Run with `pytest tests/models/test_unembedding.py`.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from taskvectors.models import unembedding as module
from taskvectors.models.shortlist import Shortlist
from taskvectors.models.unembedding import Unembedding, score_tokens, token_losses

D_VOCAB, D_STATE, ROWS = 101, 12, 9
SLICES = (7, 100, 4096)
KINDS = ("plain", "biased", "softcapped", "biased and softcapped")


def made(kind: str, dtype: torch.dtype = torch.float32) -> Unembedding:
    generator = torch.Generator().manual_seed(1)
    return Unembedding(
        weight=torch.randn(D_VOCAB, D_STATE, generator=generator).to(dtype),
        bias=torch.randn(D_VOCAB, generator=generator).to(dtype) if "biased" in kind else None,
        softcap=2.5 if "softcapped" in kind else None,
    )


def states(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(ROWS, D_STATE, generator=generator) * scale).to(dtype)


# the ends of the vocabulary, both sides of a slice's border, and a repeated token
TARGETS = torch.tensor([0, 100, 6, 7, 8, 13, 14, 50, 50])


def whole_logits(unembedding: Unembedding, state: Tensor) -> Tensor:
    """The same logits, written out."""
    logits = state @ unembedding.weight.T
    if unembedding.bias is not None:
        logits = logits + unembedding.bias
    if unembedding.softcap is not None:
        logits = torch.tanh(logits / unembedding.softcap) * unembedding.softcap
    return logits


@pytest.fixture(params=SLICES)
def vocabulary_slice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "VOCABULARY_SLICE", request.param)
    size: int = request.param
    return size


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_a_log_softmax(kind: str, vocabulary_slice: int) -> None:
    unembedding, state = made(kind), states()
    scores = score_tokens(unembedding, state, TARGETS)
    logits = whole_logits(unembedding, state)
    expected = logits.log_softmax(dim=1).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(scores.log_probability, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.normalizer, logits.logsumexp(dim=1), atol=1e-5, rtol=1e-5)
    assert scores.best.tolist() == logits.argmax(dim=1).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_bias_is_added_to_the_logits_of_all_or_some_rows(
    kind: str, vocabulary_slice: int
) -> None:
    unembedding, state = made(kind), states()
    bias = torch.linspace(-3, 3, D_VOCAB).roll(40)
    scores = score_tokens(unembedding, state, TARGETS, bias=bias)
    logits = whole_logits(unembedding, state) + bias
    expected = logits.log_softmax(dim=1).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(scores.log_probability, expected, atol=1e-5, rtol=1e-5)
    assert scores.best.tolist() == logits.argmax(dim=1).tolist()
    plain = score_tokens(unembedding, state, TARGETS)
    assert scores.best.tolist() != plain.best.tolist()
    has_bias = torch.arange(ROWS) % 3 == 0
    mixed = score_tokens(unembedding, state, TARGETS, bias=bias, has_bias=has_bias)
    expected = torch.where(has_bias, scores.log_probability, plain.log_probability)
    torch.testing.assert_close(mixed.log_probability, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_their_gradients_are_those_of_cross_entropy(
    kind: str, scale: float, vocabulary_slice: int
) -> None:
    unembedding = made(kind)
    upstream = torch.linspace(-1, 2, ROWS)
    ours, reference = (states(scale=scale).requires_grad_() for _ in range(2))
    losses = token_losses(unembedding, ours, TARGETS)
    expected = cross_entropy(whole_logits(unembedding, reference), TARGETS, reduction="none")
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-5)
    (losses * upstream).sum().backward()
    (expected * upstream).sum().backward()
    assert float(reference.grad.abs().max()) > 1e-3  # type: ignore[union-attr]
    torch.testing.assert_close(ours.grad, reference.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope_of_the_loss(kind: str, vocabulary_slice: int) -> None:
    unembedding = made(kind)
    state = states(scale=0.5).requires_grad_()
    token_losses(unembedding, state, TARGETS).sum().backward()
    direction = torch.randn(state.shape, generator=torch.Generator().manual_seed(3))
    step = 1e-2 / float(direction.norm())
    ahead, behind = (
        cross_entropy(
            whole_logits(
                Unembedding(
                    weight=unembedding.weight.double(),
                    bias=None if unembedding.bias is None else unembedding.bias.double(),
                    softcap=unembedding.softcap,
                ),
                state.detach().double() + sign * step * direction,
            ),
            TARGETS,
            reduction="sum",
        )
        for sign in (1, -1)
    )
    slope = float((state.grad * direction).sum())  # type: ignore[operator]
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_weights_and_states_keep_scores_in_float32(
    kind: str, vocabulary_slice: int
) -> None:
    exact = made(kind, torch.bfloat16)
    state = states(torch.bfloat16).requires_grad_()
    losses = token_losses(exact, state, TARGETS)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    reference = states(torch.bfloat16).float().requires_grad_()
    widened = Unembedding(
        weight=exact.weight.float(),
        bias=None if exact.bias is None else exact.bias.float(),
        softcap=exact.softcap,
    )
    expected = cross_entropy(whole_logits(widened, reference), TARGETS, reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(losses, expected, atol=0.05, rtol=0.02)
    torch.testing.assert_close(state.grad.float(), reference.grad, atol=0.05, rtol=0.05)  # type: ignore[union-attr]


LISTED = torch.tensor([0, 6, 7, 8, 13, 14, 40, 50, 77, 100])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_shortlist_is_the_vocabulary_given_that_the_token_is_listed(
    kind: str, dtype: torch.dtype, vocabulary_slice: int
) -> None:
    """Against a softmax over all logits, written out; so is the gradient."""
    full = made(kind, dtype)
    short = Shortlist.of(full, LISTED)
    ours, reference = (states(dtype, 0.5).requires_grad_() for _ in range(2))
    losses = token_losses(short.unembedding, ours, short.index(TARGETS))
    wide = reference.float()
    log_q = whole_logits(
        Unembedding(
            weight=full.weight.float(),
            bias=None if full.bias is None else full.bias.float(),
            softcap=full.softcap,
        ),
        wide,
    ).log_softmax(dim=1)
    unlisted = -log_q[:, LISTED].logsumexp(dim=1)
    expected = -log_q.gather(1, TARGETS[:, None])[:, 0] - unlisted
    exact = dtype == torch.float32
    close = {"atol": 1e-5, "rtol": 1e-4} if exact else {"atol": 0.05, "rtol": 0.05}
    torch.testing.assert_close(losses, expected, **close)
    assert float(unlisted.detach().min()) > 0.1  # or the list would be all that matters
    losses.sum().backward()
    expected.sum().backward()
    assert ours.grad is not None and reference.grad is not None  # noqa: PT018
    torch.testing.assert_close(ours.grad.float(), reference.grad.float(), **close)


@pytest.mark.parametrize("kind", KINDS)
def test_another_list_of_the_same_size_stays_in_the_same_memory(kind: str) -> None:
    full = made(kind)
    short = Shortlist.of(full, LISTED)
    weight = short.unembedding.weight
    other = short.replace(full, LISTED + torch.tensor([0] * 9 + [-1]))
    assert other.unembedding.weight is weight
    fresh = Shortlist.of(full, other.tokens.clone())
    assert other.tokens[-1] == 99
    for one in (other, short):
        torch.testing.assert_close(
            one.unembedding.logits(states()), fresh.unembedding.logits(states())
        )
    longer = short.replace(full, torch.arange(12))
    assert len(longer.tokens) == 12
    assert longer.unembedding.weight is not weight


def test_scores_carry_no_gradient_and_frozen_states_cost_none() -> None:
    unembedding, state = made("plain"), states().requires_grad_()
    scores = score_tokens(unembedding, state, TARGETS)
    assert not scores.log_probability.requires_grad
    assert not token_losses(unembedding, state.detach(), TARGETS).requires_grad


def test_states_that_are_not_contiguous_give_the_same() -> None:
    unembedding, state = made("softcapped"), states()
    strided = state.T.contiguous().T
    assert not strided.is_contiguous()
    for function in (token_losses, lambda *args: score_tokens(*args).log_probability):
        torch.testing.assert_close(
            function(unembedding, strided, TARGETS), function(unembedding, state, TARGETS)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_the_logits_of_a_few_tokens(kind: str) -> None:
    unembedding, state = made(kind), states()
    tokens = torch.arange(ROWS * 3).view(ROWS, 3) * 3
    expected = whole_logits(unembedding, state).gather(1, tokens)
    torch.testing.assert_close(unembedding.columns(state, tokens), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        unembedding.logits(state), whole_logits(unembedding, state), atol=1e-5, rtol=1e-5
    )


def test_a_models_own_unembedding_scores_as_its_logits_do(tiny_model: Any, tiny_name: str) -> None:
    model = tiny_model(tiny_name)
    tokens = torch.tensor([[1, 17, 40, 8, 99, 250, 31]])
    with torch.no_grad():
        logits = model.hf(input_ids=tokens).logits[0]
        hidden = model.body(input_ids=tokens).last_hidden_state[0]
    scores = score_tokens(model.unembedding, hidden, tokens[0])
    expected = logits.log_softmax(dim=1).gather(1, tokens[0][:, None])[:, 0]
    torch.testing.assert_close(scores.log_probability, expected, atol=1e-5, rtol=1e-5)
    assert scores.best.tolist() == logits.argmax(dim=1).tolist()
