"""Responses of a model to a vector, against whole passes and torch's own Jacobian.

Run with `pytest tests/explain/test_responses.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted
from torch import Tensor

from taskvectors.explain.shared.responses import Responses
from taskvectors.models import LanguageModel, capture, patch
from taskvectors.prompts import Prompt


def full_final(model: LanguageModel, prompt: Prompt, layer: int, value: Tensor) -> Tensor:
    """The last residual stream at the last prompt token, from one whole pass with a plain hook."""
    kept: list[Tensor] = []

    def add(state: Tensor) -> Tensor:
        last = torch.zeros(state.shape[1], 1)
        last[-1] = 1
        return state + last * value

    with (
        patch(model, layer, "resid_post", add),
        capture(model, model.n_layers - 1, "resid_post", kept.append),
    ):
        model.hf(input_ids=torch.tensor([prompt.token_ids]))
    return kept[0][0, -1]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_changes_are_those_of_whole_passes_with_and_without_the_vector(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 3)
    values = normal(4, model.d_model)
    found = Responses.of(model, prompts, layer=1).changes(values)
    with torch.no_grad():
        each = torch.stack(
            [
                torch.stack(
                    [
                        full_final(model, prompt, 1, value)
                        - full_final(model, prompt, 1, torch.zeros(model.d_model))
                        for prompt in prompts
                    ]
                )
                for value in values
            ]
        )
    mean = each.mean(dim=1)
    torch.testing.assert_close(found.mean, mean, atol=1e-4, rtol=1e-4)
    within = float((each - mean.unsqueeze(1)).square().sum(dim=2).mean())
    assert found.between_queries == pytest.approx(within, rel=1e-3)
    between_samples = float((mean - mean.mean(dim=0)).square().sum(dim=1).mean())
    assert found.share_between_queries == pytest.approx(
        within / (within + between_samples), rel=1e-3
    )


def test_the_mean_jacobian_is_that_of_whole_passes(
    tiny_model: Any, ragged_prompts: Any, tiny_kind: str
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 3)
    at = normal(model.d_model)
    found = Responses.of(model, prompts, layer=0).mean_jacobian(at)
    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda value, asked=prompt: full_final(model, asked, 0, value), at
            )
            for prompt in prompts
        ]
    ).mean(dim=0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_parts_of_a_small_budget_give_what_one_pass_gives(
    tiny_model: Any, ragged_prompts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskvectors.explain.shared import responses

    model = tiny_model("llama")
    whole = Responses.of(model, ragged_prompts(model, 3), layer=1)
    values = normal(7, model.d_model)
    expected, jacobian = whole.changes(values), whole.mean_jacobian(values[0])
    monkeypatch.setattr(responses, "TOKENS_PER_PASS", 6)
    found = whole.changes(values)
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-4)
    assert found.between_queries == pytest.approx(expected.between_queries, rel=1e-4)
    torch.testing.assert_close(whole.mean_jacobian(values[0]), jacobian, atol=1e-5, rtol=1e-4)


def test_a_planted_map_is_the_jacobian_and_the_responses() -> None:
    turn = torch.linalg.qr(normal(8, 8, seed=1)).Q
    scaling = torch.diag(torch.linspace(0.5, 4.0, 8))
    model = planted.turned_then_scaled(turn, scaling)
    here = Responses.of(model, planted.prompts(2), layer=0)
    whole = torch.eye(planted.D_MODEL)
    whole[:8, :8] = scaling @ turn
    values = normal(5, planted.D_MODEL)
    torch.testing.assert_close(here.changes(values).mean, values @ whole.T, atol=0.01, rtol=0.01)
    torch.testing.assert_close(here.mean_jacobian(values[0]), whole, atol=0.01, rtol=0.01)
    whole[:8, :8] = scaling
    torch.testing.assert_close(
        here.at(1).changes(values).mean, values @ whole.T, atol=0.01, rtol=0.01
    )
