"""States on the way to the end: formulas against loops, and a model in which the layer is known.

Run with `pytest tests/explain/test_states.py`.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from explain import planted

from taskvectors.explain import ANALYSES, Sizes
from taskvectors.explain.shared.state_geometry import (
    effective_dimension,
    logistic_regression,
    pair_geometry,
)
from taskvectors.explain.states import read_states, states_on_the_way
from taskvectors.models import patch
from taskvectors.prompts import with_first_tokens
from taskvectors.vectors import Site, TaskVector


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_states(model: Any, prompts: Any) -> torch.Tensor:
    """`resid_post` from `embed` up at the last token: one whole pass for each prompt."""
    nothing = TaskVector(values=torch.zeros(1, model.d_model), sites=(Site(0, -1),))
    return torch.stack([edited_states(model, prompt, nothing) for prompt in prompts], dim=1)


def edited_states(model: Any, prompt: Any, vector: TaskVector) -> torch.Tensor:
    """`[layer, d_model]` from `embed` up, with plain hooks on a whole pass."""
    kept: list[torch.Tensor] = []
    (site,), (value,) = vector.sites, vector.values

    def keep(state: torch.Tensor) -> torch.Tensor:
        if len(kept) == site.layer + 1:  # `embed` is the first
            state = state.clone()
            state[:, -1] += value
        kept.append(state[0, -1].clone())
        return state

    from contextlib import ExitStack

    with torch.no_grad(), ExitStack() as stack:
        for layer in range(-1, model.n_layers):
            stack.enter_context(patch(model, layer, "resid_post", keep))
        model.hf(input_ids=torch.tensor([prompt.token_ids]))
    return torch.stack(kept)


def test_states_are_those_of_whole_passes(
    tiny_kind: str, tiny_model: Any, ragged_prompts: Any
) -> None:
    model, prompts = tiny_model(tiny_kind), None
    prompts = with_first_tokens(ragged_prompts(model, 35))  # more than one pass
    vectors = {
        name: TaskVector(values=drawn(1, model.d_model, seed=at), sites=(Site(at, -1),))
        for name, at in (("low", 1), ("high", 2))
    }
    found = read_states(model, prompts, vectors, range(1, model.n_layers))
    for name, vector in vectors.items():
        for number in (0, 34):
            wanted = edited_states(model, prompts[number], vector)[2:]
            torch.testing.assert_close(found[name][:, number], wanted, atol=1e-4, rtol=1e-4)


def test_numbers_are_those_of_loops(tiny_model: Any, ragged_prompts: Any) -> None:
    from dataclasses import replace

    model, labels = tiny_model("llama"), [9, 20, 30]
    prompts = [
        replace(prompt, answer_ids=(labels[number % 3],))
        for number, prompt in enumerate(ragged_prompts(model, 12))
    ]
    vector = TaskVector(values=drawn(1, model.d_model), sites=(Site(1, -1),))
    found = states_on_the_way(
        model, prompts, vector, {"zero-shot": plain_states(model, prompts)}, labels
    )
    frame = found.to_frame().set_index(["layer", "around", "measure"])["value"]
    weight = model.hf.lm_head.weight.detach()
    for around, edited in (("vector", vector), ("zero-shot", vector * 0.0)):
        states = [edited_states(model, prompt, edited) for prompt in prompts]
        for layer in (1, 3):
            right, inside, difference, reads = 0, 0, 0.0, []
            for prompt, state in zip(prompts, states, strict=True):
                read = model.hf.model.norm(state[layer + 1]).detach()
                logits, own = weight @ read, prompt.answer_ids[0]
                reads.append(read)
                right += int(logits.argmax()) == own
                inside += int(logits.argmax()) in labels
                wrong = [float(logits[token]) for token in labels if token != own]
                difference += float(logits[own]) - sum(wrong) / 2
            at = (layer, around)
            assert frame[*at, "lens_accuracy"] == pytest.approx(right / 12)
            assert frame[*at, "in_label_set"] == pytest.approx(inside / 12)
            assert frame[*at, "logit_difference"] == pytest.approx(difference / 12, rel=1e-3)
            pairs = [
                by_loops(
                    [r for r, p in zip(reads, prompts, strict=True) if p.answer_ids[0] == a],
                    [r for r, p in zip(reads, prompts, strict=True) if p.answer_ids[0] == b],
                    weight[a] - weight[b],
                )
                for a, b in ((9, 20), (9, 30), (20, 30))
            ]
            for name in pairs[0]:
                wanted = sum(pair[name] for pair in pairs) / 3
                assert frame[*at, name] == pytest.approx(wanted, rel=1e-3)
    assert {"label_rank", "matched_rank"} <= set(found.to_frame()["measure"])


def by_loops(first: Any, second: Any, direction: Any) -> dict[str, float]:
    """Variance, mean and composite alignment, number by number."""
    u = np.asarray(direction, dtype=float)
    u = u / math.sqrt(sum(x * x for x in u))
    a, b = ([np.asarray(x, dtype=float) for x in xs] for xs in (first, second))
    mean = sum(a + b) / len(a + b)
    along = sum(float((x - mean) @ u) ** 2 for x in a + b)
    total = sum(float((x - mean) @ (x - mean)) for x in a + b)
    within = sum(float((x - sum(xs) / len(xs)) @ u) ** 2 for xs in (a, b) for x in xs) / len(a + b)
    gap = float((sum(a) / len(a) - sum(b) / len(b)) @ u) / math.sqrt(within)
    axes = np.linalg.svd(np.stack(a + b) - mean)[2][:2]
    return {
        "variance_alignment": along / total,
        "mean_alignment": gap,
        "composite_alignment": along / total * gap,
        "singular_alignment": max(abs(float(axis @ u)) for axis in axes),
    }


def test_labels_that_lie_along_their_direction_are_seen_and_others_are_not() -> None:
    u, across = torch.eye(6)[0], torch.eye(6)[1]
    noise = 0.1 * drawn(40, 6)
    apart = pair_geometry(2 * u + noise[:20], -2 * u + noise[20:], 3 * u)
    assert apart.separability == 1
    assert apart.variance_alignment > 0.95
    assert apart.singular_alignment > 0.99
    assert apart.mean_alignment > 20
    turned = pair_geometry(2 * u + noise[:20], -2 * u + noise[20:], across)
    assert turned.separability == 1
    assert turned.variance_alignment < 0.05
    assert abs(turned.mean_alignment) < 2
    mixed = pair_geometry(drawn(40, 6, seed=1), drawn(40, 6, seed=2), u)
    assert mixed.separability < 0.75
    opposite = pair_geometry(-2 * u + noise[:20], 2 * u + noise[20:], u)
    assert opposite.composite_alignment < -5


def test_the_logistic_regression_is_at_its_optimum() -> None:
    inputs, is_first = drawn(30, 50).double(), torch.arange(30) < 12
    weight, bias = logistic_regression(inputs, is_first)
    off = is_first.double() - torch.sigmoid(inputs @ weight + bias)
    torch.testing.assert_close(weight, off @ inputs, atol=1e-4, rtol=1e-4)
    assert float(off.sum()) == pytest.approx(0, abs=1e-4)


def test_the_effective_dimension_of_a_line_is_one_and_of_noise_many() -> None:
    assert effective_dimension(drawn(50, 1) @ drawn(1, 8, seed=1)) == pytest.approx(1)
    assert 6 < effective_dimension(drawn(500, 8)) <= 8


@pytest.mark.parametrize(
    ("plant", "from_layer"), [(planted.by_head, planted.CARRIER_LAYER), (planted.directly, 0)]
)
def test_the_answer_is_read_from_the_layer_that_brings_it(plant: Any, from_layer: int) -> None:
    case, prompts = plant(), planted.prompts()
    plain = {
        "zero-shot": plain_states(case.model, prompts),
        "icl": plain_states(case.model, planted.prompts(shots=2)),
    }
    found = states_on_the_way(case.model, prompts, case.vector, plain, [planted.ANSWER])
    frame = found.to_frame()
    read = frame[frame["measure"].eq("lens_accuracy")].set_index(["around", "layer"])["value"]
    layers = range(planted.LAYER, planted.N_LAYERS)
    assert [read["vector", layer] for layer in layers] == [
        float(layer >= from_layer) for layer in layers
    ]
    for around in ("zero-shot", "icl"):
        assert not read[around].any()
    # one label: nothing to compare it with
    assert not frame["measure"].isin(["logit_difference", "variance_alignment"]).any()
    series = {one.label: one.y for one in found.figure().series}
    assert series["with the vector"] == tuple(read["vector"])


def test_few_queries_of_a_label_say_nothing_of_its_pairs(
    tiny_model: Any, ragged_prompts: Any
) -> None:
    from dataclasses import replace

    model = tiny_model("llama")
    prompts = [
        replace(prompt, answer_ids=(9 if number < 3 else 20,))
        for number, prompt in enumerate(ragged_prompts(model, 8))
    ]
    vector = TaskVector(values=drawn(1, model.d_model), sites=(Site(3, -1),))
    found = states_on_the_way(model, prompts, vector, {}, [9, 20]).to_frame()
    assert set(found["layer"]) == {3}
    assert not found["measure"].isin(["separability", "mean_alignment"]).any()
    assert "logit_difference" in set(found["measure"])


def test_each_layer_of_a_vector_is_counted(tiny_model: Any, small_bench: Any) -> None:
    words = ("cold", "rouge", "maison", "small", "yes")
    pairs = [(f"{'ab'[n % 2]}{n}", words[n % 5]) for n in range(15)]
    context = small_bench(tiny_model("llama"), "words", pairs)
    one = ANALYSES["states"].cost(Sizes(context=context, layers=(1,)))
    two = ANALYSES["states"].cost(Sizes(context=context, layers=(1, 2)))
    assert len(two) == 2 * len(one)
    assert two[: len(one)] == one
    # four runs of six prompts, read at layers 1 to 3
    assert one[0].rows == 4 * 6 * 3
