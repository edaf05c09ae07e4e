"""Key heads: scores as the formula says, and the planted head on top.

Run with `pytest tests/explain/test_key_heads.py`.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from explain import planted

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.head_overlap import at_least, head_overlap
from taskvectors.explain.key_heads import head_products, key_heads
from taskvectors.explain.shared.head_removal import removal_effects
from taskvectors.models import patch
from taskvectors.vectors import Site, TaskVector, inject


def probability(model: Any, prompt: Any) -> torch.Tensor:
    """exp of the mean log-probability of the answer's tokens, from one whole pass."""
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    logits = model.hf(input_ids=tokens).logits[0, len(prompt.token_ids) - 1 :]
    found = logits.log_softmax(-1).gather(1, torch.tensor(prompt.answer_ids).unsqueeze(1))
    return found.mean().exp()


@pytest.mark.parametrize("position", [-1, "query_last"])
def test_products_are_the_derivative_of_scaling_a_head(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any, position: Any
) -> None:
    model = tiny_model(tiny_kind)
    # answers of several tokens, whose products are summed over the positions that predict them
    prompts = ragged_prompts(model, 3, answers=(1, 3))
    generator = torch.Generator().manual_seed(0)
    vector = TaskVector(
        values=torch.randn(1, model.d_model, generator=generator), sites=(Site(1, position),)
    )
    found = head_products(model, prompts, vector, range(2, 4)).unflatten(1, (2, -1))
    for row, prompt in enumerate(prompts):
        first = len(prompt.token_ids) - 1
        for layer, head in ((2, 1), (3, 3)):
            scale = torch.tensor(1.0, requires_grad=True)

            factor = torch.ones(len(prompt.token_ids + prompt.answer_ids) - 1, model.n_heads, 1)
            factor[first:, head] = 0
            factor = factor + (1 - factor) * scale

            def scaled(z: torch.Tensor, factor: torch.Tensor = factor) -> torch.Tensor:
                return (z.view(*z.shape[:2], model.n_heads, -1) * factor).flatten(2)

            with patch(model, layer, "z", scaled), inject(model, vector, prompts=[prompt]):
                p = probability(model, prompt)
            (wanted,) = torch.autograd.grad(p, scale)
            assert found[row, layer - 2, head] == pytest.approx(float(wanted), abs=1e-7, rel=1e-3)


def test_the_planted_head_is_the_key_head() -> None:
    plant = planted.by_head()
    found = key_heads(plant.model, planted.prompts(), plant.vector)
    # 4 blocks of 4 heads lie above the vector
    assert len(found.heads) == 16
    assert found.ranked[0] == (planted.CARRIER_LAYER, planted.CARRIER_HEAD)
    assert len(found.key) == 2
    assert [head.score > 0 for head in found.heads].count(True) == 1
    assert [head.removed < -0.1 for head in found.heads].count(True) == 1
    figure = found.figure()
    assert figure.rows == ("1", "2", "3", "4")
    assert (1, 1) in figure.marked
    assert len(found.to_frame()) == 16


@pytest.mark.parametrize("plant", [planted.by_mlp, planted.directly])
def test_no_head_scores_where_none_carries_the_vector(plant: Any) -> None:
    case = plant()
    found = key_heads(case.model, planted.prompts(), case.vector)
    assert all(head.score == 0 for head in found.heads)


def test_removal_is_a_whole_pass_with_the_head_at_zero(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    prompts = ragged_prompts(model, 3, answers=(1, 1))
    vector = TaskVector(values=torch.ones(1, model.d_model), sites=(Site(0, -1),))
    found = removal_effects(model, prompts, vector.edits(), layers=range(1, 4))
    found = found.unflatten(1, (3, -1))
    for row, prompt in enumerate(prompts):
        with torch.no_grad(), inject(model, vector):
            whole = probability(model, prompt)
            for layer, head in ((1, 0), (3, 2)):

                def silence(z: torch.Tensor, head: int = head) -> torch.Tensor:
                    z = z.clone().view(*z.shape[:2], model.n_heads, -1)
                    z[:, -1, head] = 0
                    return z.flatten(2)

                with patch(model, layer, "z", silence):
                    change = probability(model, prompt) - whole
                assert found[row, layer - 1, head] == pytest.approx(float(change), abs=1e-6)


def test_small_budgets_change_no_score(tiny_model: Any, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 5)
    vector = TaskVector(values=torch.ones(1, model.d_model), sites=(Site(0, -1),))
    whole = key_heads(model, prompts, vector)
    parts = key_heads(model, prompts, vector, memory=1_200_000)
    for one, other in zip(whole.heads, parts.heads, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)


def test_a_vector_with_no_head_above_it_is_refused() -> None:
    plant = planted.by_head()
    top = TaskVector(values=plant.vector.values, sites=(Site(planted.N_LAYERS - 1, -1),))
    with pytest.raises(TaskVectorsError, match="no head of planted lies above it"):
        key_heads(plant.model, planted.prompts(), top)


def test_overlap_is_counted_among_heads_that_could_be_key_heads() -> None:
    pool = [(layer, head) for layer in (1, 2) for head in range(5)]
    found = head_overlap(pool[:2], {"other task": [(0, 0), (1, 1), (2, 2)]}, pool)
    (row,) = found.rows
    assert (row.shared, row.n_reference, row.share) == (1, 2, 0.5)
    assert row.chance == 0.2
    # 1 - C(8, 2) / C(10, 2)
    assert row.p_value == pytest.approx(1 - 28 / 45)
    assert row.smallest_p_value == pytest.approx(1 / 45)
    assert at_least(0, n=2, marked=2, pool=10) == 1
    assert found.figure().x_ticks == ((0.0, "other task"),)
    with pytest.raises(TaskVectorsError, match="nothing to compare"):
        head_overlap(pool[:2], {}, pool)


def test_heads_of_a_function_vector_and_of_another_seed_are_compared_with() -> None:
    from taskvectors.explain import ANALYSES, Case
    from taskvectors.methods import RunContext
    from taskvectors.tasks import load_task
    from taskvectors.vectors import VectorOrigin

    plant = planted.by_head()
    carrier = [planted.CARRIER_LAYER, planted.CARRIER_HEAD]
    function_vector = replace(
        plant.vector, origin=VectorOrigin(method="function-vector", settings={"heads": [carrier]})
    )
    again = replace(plant.vector, origin=VectorOrigin(method="learned", seed=1))
    case = Case(
        context=RunContext(
            model=plant.model,
            task=load_task("capital"),
            _prompts={("train", 0, False): planted.prompts()},
        ),
        vector=plant.vector,
        vectors=(plant.vector, function_vector, again),
    )
    made_of, other_seed = ANALYSES["head-overlap"].run(case).rows
    assert made_of.reference.startswith("heads that make up 2:")
    assert (made_of.shared, made_of.n_reference) == (1, 1)
    assert other_seed.share == 1
