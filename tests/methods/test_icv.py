"""`icv` against the formula, pair by pair, and its edit against a loop over tokens.

Run with `pytest tests/methods/test_icv.py`.
"""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

from taskvectors.errors import UnsupportedModelError
from taskvectors.methods.icv import InContextVector, icv, main_direction
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.models import patch
from taskvectors.prompts import build_prompts
from taskvectors.tasks import Example


def words(number: int) -> str:
    return ("cold", "rouge house", "small red", "big", "maison")[number % 5]


def states_in_place_of_the_input(context: Any, text: str, states_of: Any) -> torch.Tensor:
    """All layers but the embedding, at the last token of a text where a prompt has its input."""
    pair = Example(input=text, output="x")
    (prompt,) = build_prompts(context.model.tokenizer, context.template, [pair])
    found: torch.Tensor = states_of(context.model, prompt)[1:, prompt.spans["query"][1] - 1]
    return found


def test_the_vector_is_the_main_direction_from_inputs_to_outputs(
    tiny_model: Any, bench_of: Any, states_of: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), words, sizes=(5, 2, 2))
    changes = []
    for pair in context.task.train:
        x, y = (
            states_in_place_of_the_input(context, text, states_of)
            for text in (pair.input, pair.output)
        )
        changes.append((y - x).flatten().numpy().astype(np.float64))
    changes = np.array(changes)
    mean = changes.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(changes.T))
    component = vectors[:, -1]
    component *= np.sign(component @ mean)
    direction = (component + mean).reshape(context.model.n_layers, -1)
    expected = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    found = icv(context, InContextVector())[0].vector
    torch.testing.assert_close(
        found.values, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=1e-4
    )
    assert {(site.component, site.position) for site in found.sites} == {("mlp_out", "all")}
    assert found.layers == tuple(range(context.model.n_layers))


def test_every_mlp_is_turned_at_every_token_of_the_prompt(
    tiny_model: Any, bench_of: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), words, sizes=(5, 3, 2))
    strength = 0.7
    (one,) = icv(context, InContextVector(strengths=(strength,)))
    scores = score_candidates(context, "validation", [one])[0]
    for index, prompt in enumerate(context.prompts("validation")):
        n = len(prompt.token_ids)

        def steer(out: torch.Tensor, layer: int, n: int = n) -> torch.Tensor:
            out = out.clone()
            v = one.vector.values[layer]
            for place in range(n):
                x = out[0, place]
                s = 1 + max(0.0, float(torch.cosine_similarity(x, -v, dim=0)))
                mixed = x / x.norm() + strength * s * v
                out[0, place] = mixed / mixed.norm() * x.norm()
            return out

        tokens = prompt.token_ids + prompt.answer_ids[:-1]
        with torch.no_grad(), ExitStack() as stack:
            for layer in range(context.model.n_layers):
                stack.enter_context(
                    patch(context.model, layer, "mlp_out", lambda out, i=layer: steer(out, i))
                )
            logits = context.model.hf(input_ids=torch.tensor([tokens])).logits[0, n - 1 :]
        own = logits.log_softmax(dim=1)[torch.arange(len(prompt.answer_ids)), prompt.answer_ids]
        assert float(scores.log_probability[0, index]) == pytest.approx(float(own.mean()), abs=1e-4)


def test_one_pair_or_equal_changes_have_no_component_but_the_mean() -> None:
    change = torch.randn(3, 1, 4)
    torch.testing.assert_close(main_direction(change), change[:, 0])
    torch.testing.assert_close(main_direction(change.expand(-1, 6, -1)), change[:, 0])


def test_the_component_is_found_where_it_was_planted_and_points_as_the_mean_does() -> None:
    generator = torch.Generator().manual_seed(0)
    planted = torch.nn.functional.normalize(torch.randn(24, generator=generator), dim=0)
    amounts = torch.tensor([1.0, 2.0, 4.0, 3.0]) * 1e3
    change = (amounts[:, None] * planted).view(4, 3, 8).transpose(0, 1)
    expected = (planted * (amounts.mean() + 1)).view(3, 8)
    torch.testing.assert_close(main_direction(change), expected, atol=1e-1, rtol=1e-4)
    torch.testing.assert_close(main_direction(-change), -expected, atol=1e-1, rtol=1e-4)


def test_only_so_many_pairs_are_read_and_paid_for(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), words)
    one = icv(context, InContextVector(n_pairs=3, layers=(1, 3)))[0]
    assert one.vector.layers == (1, 3)
    assert one.cost.examples == 3
    few = icv(bench_of(tiny_model("llama"), words, sizes=(3, 6, 6)), InContextVector())[0]
    torch.testing.assert_close(one.vector.values, few.vector.values[[1, 3]])


def test_there_is_no_mlp_below_the_first_block(tiny_model: Any, bench_of: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="mlp_out of layer -1 does not exist"):
        icv(bench_of(tiny_model("llama")), InContextVector(layers=("embed", 1)))
