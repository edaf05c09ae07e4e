"""What heads and MLPs make of a vector, in its place.

Run with `pytest tests/explain/test_reconstruction.py`.
"""

from typing import Any

import pytest
import torch
from explain import planted
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.explain.ov_reconstruction import (
    VARIANTS,
    Reconstructed,
    reconstruct,
)
from taskvectors.explain.shared.ov_terms import mlp_terms, paper_terms, scaled_terms
from taskvectors.explain.shared.shares import gained, share_of, share_over
from taskvectors.models import capture
from taskvectors.models.heads import attention_scale, output_bias, output_weights, value_weights
from taskvectors.vectors import Site, TaskVector


def variants(plant: planted.Planted) -> dict[str, Reconstructed]:
    found = reconstruct(
        plant.model,
        plant.vector,
        training=planted.prompts(8, 1),
        validation=planted.prompts(8, 2),
        test=planted.prompts(8, 3),
    )
    assert found.n == 8
    assert len(found.to_frame()) == len(VARIANTS) + 2
    assert found.figure().references[0].y == 1.0
    return {row.variant: row for row in found.rows}


def test_a_head_that_carries_the_vector_is_found_and_no_mlp() -> None:
    rows = variants(planted.by_head())
    assert rows["none"].accuracy == 0
    assert rows["vector"].accuracy == 1
    for variant in ("paper", "paper-by-layer", "scaled", "scaled-by-layer", "path"):
        assert rows[variant].accuracy == 1
        assert rows[variant].recovered == 1
        assert rows[variant].random_accuracy < 1
        assert rows[variant].difference_to_random > 0
    for variant in ("mlp", "mlp-by-layer", "mlp-path"):
        assert rows[variant].accuracy == 0


def test_an_mlp_that_carries_the_vector_is_found_and_no_head() -> None:
    rows = variants(planted.by_mlp())
    for variant in ("mlp", "mlp-by-layer", "mlp-path"):
        assert rows[variant].accuracy == 1
    for variant in ("paper", "paper-by-layer", "scaled", "scaled-by-layer", "path"):
        assert rows[variant].accuracy == 0
        assert rows[variant].difference_to_vector == -1


def test_a_vector_that_takes_the_direct_path_is_found_in_neither() -> None:
    rows = variants(planted.directly())
    assert rows["vector"].accuracy == 1
    assert all(rows[variant].accuracy == 0 for variant in VARIANTS)


def random_vector(model: Any, layer: int = 1) -> TaskVector:
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(1, model.d_model, generator=generator)
    return TaskVector(values=values, sites=(Site(layer, -1),))


def test_the_paper_term_is_the_sum_over_heads_written_out(tiny_model: Any) -> None:
    model = tiny_model("llama")
    vector = random_vector(model)
    found = paper_terms(model, vector, range(2, 4))
    wanted = []
    for layer in (2, 3):
        W_V, W_O = value_weights(model, layer), output_weights(model, layer)
        weight = model.blocks[layer].input_layernorm.weight
        total = torch.zeros(model.d_model)
        for head in range(4):  # two query heads share a key-value head
            total += (weight * vector.values[0]) @ W_V[head // 2] @ W_O[head]
        wanted.append(total)
    direction = torch.nn.functional.cosine_similarity(found, torch.stack(wanted), dim=1)
    torch.testing.assert_close(direction, torch.ones(2))
    assert found.sum(dim=0).norm() == pytest.approx(vector.norm(), rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_scaled_term_is_the_mean_over_prompts_written_out(
    tiny_model: Any, ragged_prompts: Any, name: str
) -> None:
    model = tiny_model(name)
    vector, layer = random_vector(model), 2
    prompts = ragged_prompts(model, 3, answers=(1, 1))
    found = scaled_terms(model, vector, range(2, 4), prompts)[0]
    total = torch.zeros(model.d_model)
    for prompt in prompts:
        total += _one_scaled_term(model, layer, vector, prompt)
    torch.testing.assert_close(found, total / 3, atol=1e-5, rtol=1e-4)


def _one_scaled_term(model: Any, layer: int, vector: TaskVector, prompt: Any) -> Tensor:
    from taskvectors.vectors import inject

    tokens = torch.tensor([prompt.token_ids])
    kept: dict[str, Tensor] = {}
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        with (
            torch.no_grad(),
            capture(model, layer, "resid_pre", lambda s: kept.__setitem__("state", s[0, -1])),
            capture(model, layer, "z", lambda s: kept.__setitem__("z", s[0, -1])),
            inject(model, vector),
        ):
            pattern = model.hf(input_ids=tokens, output_attentions=True).attentions[layer]
    finally:
        model.config._attn_implementation = before
    norm, theta, state = model.attention_norm(layer), vector.values[0], kept["state"]
    if isinstance(norm, torch.nn.LayerNorm):
        spread = (state.var(unbiased=False) + norm.eps).sqrt()
        read = (theta - theta.mean()) / spread * norm.weight
    else:
        epsilon = getattr(norm, "eps", None) or norm.variance_epsilon
        weight = norm.weight + (1 if model.model_type == "gemma2" else 0)
        read = theta / (state.square().mean() + epsilon).sqrt() * weight
    W_V, W_O = value_weights(model, layer), output_weights(model, layer)
    total = torch.zeros(model.d_model)
    whole = output_bias(model, layer).clone()
    for head in range(model.n_heads):
        part = kept["z"].view(model.n_heads, -1)[head]
        whole += part @ W_O[head]
        own = pattern[0, head, -1, -1]
        total += own * (read @ W_V[head * len(W_V) // model.n_heads] @ W_O[head])
    return total * attention_scale(model, layer, whole)


def test_the_mlp_term_is_what_the_mlp_adds_for_the_vector_alone(
    tiny_model: Any, tiny_kind: str, ragged_prompts: Any
) -> None:
    model = tiny_model(tiny_kind)
    vector, layer = random_vector(model), 3
    prompts = ragged_prompts(model, 3, answers=(1, 1))
    found = mlp_terms(model, vector, range(2, 4), prompts)[1]
    total = torch.zeros(model.d_model)
    for prompt in prompts:
        outputs = []
        for theta in (torch.zeros(model.d_model), vector.values[0]):

            def enter(_: Any, args: Any, theta: Tensor = theta) -> Any:
                state = args[0].clone()
                state[:, -1] += theta
                return (state, *args[1:])

            module = model.part(layer, "mlp_input")
            handle = module.register_forward_pre_hook(enter)
            with torch.no_grad(), capture(model, layer, "mlp_out", outputs.append):
                model.hf(input_ids=torch.tensor([prompt.token_ids]))
            handle.remove()
        total += (outputs[1] - outputs[0])[0, -1]
    torch.testing.assert_close(found, total / 3, atol=1e-5, rtol=1e-4)


def test_a_vector_of_two_layers_is_refused() -> None:
    plant = planted.by_head()
    vector = TaskVector(
        values=plant.vector.values.expand(2, -1).clone(), sites=(Site(0, -1), Site(1, -1))
    )
    prompts = planted.prompts(4)
    with pytest.raises(TaskVectorsError, match="layers 0, 1"):
        reconstruct(plant.model, vector, training=prompts, validation=prompts, test=prompts)


def test_what_is_recovered_is_a_share_of_the_gain() -> None:
    plain = torch.tensor([False, False, False, True] * 10)
    whole = torch.tensor([True, True, True, True] * 10)
    half = torch.tensor([True, False, False, True] * 10)
    share = gained(half, whole, plain)
    assert share is not None
    assert share.value == pytest.approx(1 / 3)
    assert share.low < 1 / 3 < share.high
    assert gained(half, plain, plain) is None


def test_the_interval_over_draws_is_never_empty() -> None:
    never = torch.zeros(20, dtype=torch.bool)
    assert share_over([never, never]) == share_of(never)
    assert share_over([never, never]).high > 0.1
    mixed = share_over([never, ~never])
    assert mixed.value == 0.5
    assert mixed.low < 0.5 < mixed.high
