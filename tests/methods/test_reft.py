"""LoReFT and LobiReFT against their formulas, prompt by prompt.

Run with `pytest tests/methods/test_reft.py`.
"""

from functools import partial
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from taskvectors.methods import Recipe
from taskvectors.methods.lobireft import LobiReFT, lobireft
from taskvectors.methods.loreft import LoReFT, loreft
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.shared.low_rank import Subspace, orthonormal
from taskvectors.models import patch

RECIPE = Recipe(steps=4, batch_size=5, learning_rate=0.3, check_every=4)


def written_out(part: Subspace, state: Tensor) -> Tensor:
    """h + Rᵀ(W h + b - R h), one state at a time; R by Gram-Schmidt, column by column."""
    columns: list[Tensor] = []
    for free in part.basis.T:
        own = free.clone()
        for other in columns:
            own = own - (own @ other) * other
        columns.append(own / own.norm())
    rotation = torch.stack(columns)
    rank, width = rotation.shape
    offset = part.s * (width / rank) ** 0.5 * part.offset
    if part.target is None:
        return state + rotation.T @ offset
    weight = part.start + part.target / width**0.5
    return state + rotation.T @ (weight @ state + offset - rotation @ state)


def subspaces(one: Any) -> list[Subspace]:
    return [edit.value.__self__ for edit in one.branch(())]


def test_a_trained_edit_is_scored_as_its_formula_in_whole_passes(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    """At two layers: the second edit reads a state that the first has changed."""
    model = tiny_model(tiny_kind)
    context = bench_of(model, mixed)
    (one,) = loreft(context, LoReFT(layers=(0, 2), rank=3, recipe=RECIPE))
    (scores,) = score_candidates(context, "test", [one])
    plain = context.score("test", 0)
    parts = subspaces(one)
    assert all(part.target is not None and bool(part.target.any()) for part in parts)
    for number, prompt in enumerate(context.prompts("test")):
        tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
        last = len(prompt.token_ids) - 1

        def edit(part: Subspace, state: Tensor, place: int = last) -> Tensor:
            state = state.clone()
            state[0, place] = written_out(part, state[0, place])
            return state

        with (
            torch.no_grad(),
            patch(model, 0, "resid_post", partial(edit, parts[0])),
            patch(model, 2, "resid_post", partial(edit, parts[1])),
        ):
            logits = model.hf(input_ids=tokens).logits[0, last:].log_softmax(dim=-1)
        answer = torch.tensor(prompt.answer_ids)
        expected = float(logits.gather(1, answer.unsqueeze(1)).mean())
        assert float(scores.log_probability[0, number]) == pytest.approx(expected, abs=1e-4)
    assert not torch.allclose(scores.log_probability, plain.log_probability, atol=1e-2)


def test_the_constant_edit_is_a_task_vector_in_the_span_of_r(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    found = lobireft(context, LobiReFT(rank=2, recipe=RECIPE))
    assert [one.vector.layers for one in found] == [(layer,) for layer in range(4)]
    for one in found:
        assert one.vector.norm() > 0
        assert one.cost.parameters == 2 * 32 + 2


def test_an_edit_starts_where_it_changes_nothing(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    still = Recipe(steps=1, batch_size=99, learning_rate=1e-12, check_every=1)
    plain = float(context.score("validation", 0).log_probability.mean())
    for method, config in ((loreft, LoReFT(recipe=still)), (lobireft, LobiReFT(recipe=still))):
        for one in method(context, config):  # type: ignore[operator]
            assert one.curve[0]["validation_logprob"] == pytest.approx(plain, abs=1e-4)


def test_more_training_helps_the_planted_answer(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), "cold")
    plain = float(context.score("test", 0).log_probability.mean())
    recipe = Recipe(steps=30, learning_rate=0.2, check_every=10)
    for method, config in (
        (loreft, LoReFT(layers=(3,), recipe=recipe)),
        (lobireft, LobiReFT(layers=(3,), recipe=recipe)),
    ):
        (one,) = method(context, config)  # type: ignore[operator]
        (scores,) = score_candidates(context, "test", [one])
        assert float(scores.log_probability.mean()) > plain + 1.0


def test_r_stays_orthonormal_whatever_decay_does_to_the_free_matrix() -> None:
    free = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before = orthonormal(free).detach()
    optimizer = torch.optim.AdamW([free], lr=0.1, weight_decay=1.0)
    for _ in range(60):  # decay alone: shrinks to 0.2 %
        free.grad = torch.zeros_like(free)
        optimizer.step()
    assert float(free.detach().norm()) < 0.1
    after = orthonormal(free).detach()
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.T @ after, torch.eye(3), atol=1e-5, rtol=1e-5)


def test_r_follows_its_matrix_without_jumps() -> None:
    free = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    free[0, 0] = 1e-4
    across = free.clone()
    across[0, 0] = -1e-4
    torch.testing.assert_close(orthonormal(free), orthonormal(across), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "given", [{"rate": "absolute"}, {"penalty": "sparsity"}, {"learn_strength": True}], ids=str
)
def test_settings_without_a_meaning_for_an_edit_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="has no meaning for a low-rank edit"):
        LoReFT(recipe=Recipe(**given))
