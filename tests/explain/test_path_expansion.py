"""Every path is computed forwards, and together they are the whole effect of a vector.

Run with `pytest tests/explain/test_path_expansion.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.path_expansion import (
    FINAL_NORM,
    MLPS,
    PATTERNS,
    VECTOR,
    path_expansion,
    path_terms,
)
from taskvectors.explain.shared.two_runs import two_runs
from taskvectors.models import patch
from taskvectors.prompts import with_first_tokens
from taskvectors.vectors import Site, TaskVector


def vector_at(model: Any, *layers: int, size: float = 2.0) -> TaskVector:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(len(layers), model.d_model, generator=generator) * size
    return TaskVector(values=values, sites=tuple(Site(layer, -1) for layer in layers))


def whole_change(model: Any, prompt: Any, vector: TaskVector) -> torch.Tensor:
    """Change of all logits before soft-capping: two whole passes with plain hooks."""
    tokens = torch.tensor([prompt.token_ids])

    def logits() -> torch.Tensor:
        found = model.hf(input_ids=tokens).logits[0, -1]
        cap = model.unembedding.softcap
        return found if cap is None else cap * torch.atanh(found / cap)

    from contextlib import ExitStack

    with torch.no_grad(), ExitStack() as stack:
        plain = logits()
        for site, value in zip(vector.sites, vector.values, strict=True):

            def add(state: torch.Tensor, value: torch.Tensor = value) -> torch.Tensor:
                state = state.clone()
                state[:, -1] += value
                return state

            stack.enter_context(patch(model, site.layer, "resid_post", add))
        return logits() - plain


def test_the_terms_add_up_to_the_whole_on_all_logits(
    tiny_model: Any, tiny_name: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_name)
    vector = vector_at(model, 0, 2) if tiny_name == "llama" else vector_at(model, 0)
    prompts = with_first_tokens(ragged_prompts(model, 3))
    if model.is_post_norm:
        with pytest.raises(TaskVectorsError, match="a norm follows each sum"):
            path_expansion(model, prompts, vector)
        return
    runs = two_runs(model, prompts, vector, range(1, model.n_layers))
    terms = torch.stack(list(path_terms(model, runs, vector).values()))
    summed = terms.sum(dim=0) @ model.unembedding.weight.float().T
    for found, prompt in zip(summed, prompts, strict=True):
        torch.testing.assert_close(found, whole_change(model, prompt, vector), atol=1e-4, rtol=1e-4)


def test_the_error_that_is_reported_is_small(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    found = path_expansion(model, ragged_prompts(model, 40), vector_at(model, 1))
    assert found.residual < 1e-4
    assert found.n == 40
    assert sum(term.effect for term in found.terms) == pytest.approx(found.whole, abs=1e-4)


def effects(plant: planted.Planted) -> dict[tuple[str, int | None], float]:
    found = path_expansion(plant.model, planted.prompts(), plant.vector)
    assert found.residual < 1e-4
    assert found.whole > 1
    return {(term.source, term.hops): term.share for term in found.terms}


def test_a_head_that_carries_the_vector_is_one_hop() -> None:
    share = effects(planted.by_head())
    assert share[VECTOR, 1] > 0.9
    assert abs(share[VECTOR, 0]) < 0.05
    assert share[MLPS, 0] == 0


def test_an_mlp_that_carries_the_vector_is_no_hop() -> None:
    share = effects(planted.by_mlp())
    assert share[MLPS, 0] > 0.9
    assert share[VECTOR, 1] == 0
    assert share[PATTERNS, 0] == 0


def test_a_vector_that_the_unembedding_reads_takes_the_direct_path() -> None:
    share = effects(planted.directly())
    assert share[VECTOR, 0] > 0.9
    assert share[VECTOR, 1] == 0
    assert abs(share[FINAL_NORM, None]) < 0.2


def test_two_heads_in_a_row_are_two_hops() -> None:
    plant = planted.by_head()
    attention = plant.model.blocks[planted.CARRIER_LAYER + 1].self_attn
    with torch.no_grad():  # a second head carries on what the first one wrote
        attention.v_proj.weight[0, planted.TARGET] = 1.0
        attention.o_proj.weight[0, 0] = 30.0
        plant.model.hf.lm_head.weight[planted.ANSWER] = torch.eye(planted.D_MODEL)[0]
    share = effects(plant)
    assert share[VECTOR, 2] > 0.9
    assert abs(share[VECTOR, 1]) < 0.05


@pytest.mark.parametrize(
    ("site", "operation"),
    [(Site(0, -2), "add"), (Site(0, -1), "replace"), (Site(1, -1, "mlp_out"), "add")],
)
def test_vectors_without_a_meaning_are_refused(site: Site, operation: Any) -> None:
    plant = planted.by_head()
    vector = TaskVector(values=plant.vector.values, sites=(site,), operation=operation)
    with pytest.raises(TaskVectorsError, match="path expansion has no meaning"):
        path_expansion(plant.model, planted.prompts(), vector)


def test_a_vector_at_the_last_layer_has_no_paths() -> None:
    plant = planted.by_head()
    sites = (Site(planted.N_LAYERS - 1, -1),)
    with pytest.raises(TaskVectorsError, match="no block lies above layer 4"):
        path_expansion(
            plant.model,
            planted.prompts(),
            TaskVector(values=plant.vector.values, sites=sites),
        )


def test_figure_and_frame_show_every_term() -> None:
    plant = planted.by_head()
    found = path_expansion(plant.model, planted.prompts(), plant.vector)
    frame = found.to_frame()
    assert len(frame) == len(found.terms) == sum(len(s.x) for s in found.figure().series)
    assert frame["residual"].max() == found.residual
