"""`linear` against the ridge regression written out, and d_NTP against a loop over prompts.

Run with `pytest tests/methods/test_linear.py`.
"""

from typing import Any

import numpy as np
import pytest
import torch

from taskvectors.errors import UnsupportedModelError
from taskvectors.evaluate import next_token_divergence
from taskvectors.methods.linear import Linear, linear, ridge_maps
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.models import patch


def ridge_by_hand(plain: torch.Tensor, shown: torch.Tensor, penalty: float) -> np.ndarray:
    """W of the normal equations, `[d_in, d_out]`, for states that are not scaled."""
    h, change = plain.double().numpy(), (shown - plain).double().numpy()
    rms = np.sqrt((h**2).mean())
    x = h / rms
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ change) / rms


@pytest.mark.parametrize("n_prompts", [5, 40])
def test_a_ridge_map_solves_the_normal_equations(n_prompts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    plain, shown, other = (3 * torch.randn(n, 8, generator=generator) for n in (n_prompts,) * 3)
    for penalty, ridge in zip((0.5, 20.0), ridge_maps(plain, shown, (0.5, 20.0)), strict=True):
        expected = other.double().numpy() @ ridge_by_hand(plain, shown, penalty)
        np.testing.assert_allclose(ridge(other).numpy(), expected, atol=1e-4, rtol=1e-4)


def test_a_planted_map_is_found_and_a_large_penalty_leaves_nothing_of_it() -> None:
    generator = torch.Generator().manual_seed(1)
    planted = torch.randn(6, 6, generator=generator)
    plain = torch.randn(200, 6, generator=generator)
    weak, strong = ridge_maps(plain, plain + plain @ planted, (1e-3, 1e9))
    torch.testing.assert_close(weak(torch.eye(6)), planted, atol=1e-3, rtol=1e-3)
    assert float(strong(torch.eye(6)).abs().max()) < 1e-4


def test_what_is_added_is_the_map_of_the_prompts_own_state(
    tiny_model: Any, bench_of: Any, states_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(6, 4, 3))
    candidates = linear(context, Linear(penalties=(5.0,), layers=(1, 3)))
    assert [one.sites[0].layer for one in candidates] == [1, 3]
    scores = score_candidates(context, "test", candidates)

    def at_last(shots: int) -> torch.Tensor:
        prompts = context.prompts("train", shots)
        return torch.stack([states_of(context.model, prompt)[:, -1] for prompt in prompts], dim=1)

    plain, shown = at_last(0), at_last(context.shots)
    for layer, found in zip((1, 3), scores, strict=True):
        w = torch.tensor(ridge_by_hand(plain[layer + 1], shown[layer + 1], 5.0)).float()
        for index, prompt in enumerate(context.prompts("test")):
            last = len(prompt.token_ids) - 1

            def add(state: torch.Tensor, last: int = last, w: torch.Tensor = w) -> torch.Tensor:
                state = state.clone()
                state[0, last] = state[0, last] + state[0, last] @ w
                return state

            tokens = prompt.token_ids + prompt.answer_ids[:-1]
            with torch.no_grad(), patch(context.model, layer, "resid_post", add):
                logits = context.model.hf(input_ids=torch.tensor([tokens])).logits[0, last:]
            own = logits.log_softmax(dim=1)[torch.arange(len(prompt.answer_ids)), prompt.answer_ids]
            wanted = pytest.approx(float(own.mean()), abs=2e-4)
            assert float(found.log_probability[0, index]) == wanted


def test_without_layers_it_is_at_the_last_block_only(tiny_model: Any, bench_of: Any) -> None:
    found = linear(bench_of(tiny_model("llama")), Linear(penalties=(1.0, 10.0)))
    assert [one.sites[0].layer for one in found] == [3, 3]
    assert all(one.cost.parameters == 32**2 for one in found)
    with pytest.raises(UnsupportedModelError):
        linear(bench_of(tiny_model("llama")), Linear(layers=(4,)))


# --- d_NTP


def test_d_ntp_is_the_mean_divergence_from_icl_over_first_tokens_of_answers(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(6, 4, 2))
    (one,) = linear(context, Linear(penalties=(5.0,)))
    tokens = sorted({prompt.answer_ids[0] for prompt in context.prompts("train")})
    (edit,) = one.branch(context.prompts("validation"))

    def log_probabilities(prompt: Any, added: Any = None) -> torch.Tensor:
        def add(state: torch.Tensor) -> torch.Tensor:
            return state if added is None else state + added

        with torch.no_grad(), patch(context.model, 3, "resid_post", add):
            logits = context.model.hf(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        return logits[tokens].log_softmax(dim=0)

    total = 0.0
    pairs = zip(context.prompts("validation"), context.prompts("validation", 2), strict=True)
    for index, (plain, shown) in enumerate(pairs):
        q, p = log_probabilities(plain, edit.value[index, 0]), log_probabilities(shown)
        total += float((p.exp() * (p - q)).sum())
    assert one.d_ntp == pytest.approx(total / 4, abs=1e-4)
    assert one.d_ntp > 0


def test_d_ntp_is_zero_for_icl_itself(tiny_model: Any) -> None:
    model = tiny_model("gemma2")
    states = torch.randn(5, model.d_model)
    tokens = torch.tensor([4, 9, 30])
    assert next_token_divergence(model, states, states, tokens) == pytest.approx(0, abs=1e-6)
    assert next_token_divergence(model, states, states.flip(0), tokens) > 0.01
