"""`state-vector` against `z` of whole passes, separator by separator.

Run with `pytest tests/methods/test_state_vector.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.methods.state_vector import OURS, RELEASED, StateVector, refine, state_vector
from taskvectors.models import capture, patch


def z_by_hand(context: Any, prompt: Any, layer: int) -> torch.Tensor:
    """`z` behind 1, 2, ..., N demonstrations of one prompt, `[step, width]`."""
    found: list[torch.Tensor] = []
    with torch.no_grad(), capture(context.model, layer, "z", found.append):
        context.model.hf(input_ids=torch.tensor([prompt.token_ids]))
    n = len(prompt.demonstrations)
    places = [prompt.spans[f"separator_{k}"][0] for k in range(2, n + 1)]
    return found[0][0, [*places, len(prompt.token_ids) - 1]]


def test_each_variant_is_what_its_formula_says_of_whole_passes(
    tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(8, 2, 2), shots=4)
    config = StateVector(n_prompts=3, variants=OURS, depths=(2, 4), momentum=0.25)
    found = {one.configuration: one.vector for one in state_vector(context, config)}
    assert len(found) == 6
    expected: dict[str, list[torch.Tensor]] = {"average": [], "inner": [], "momentum": []}
    for layer in range(4):
        by_prompt = {name: torch.zeros(0) for name in expected}
        for prompt in context.prompts("train", 4)[:3]:
            v1, v2, v3, v4 = z_by_hand(context, prompt, layer)
            m2 = 0.75 * (v2 - v1)
            m3 = 0.25 * m2 + 0.75 * (v3 - v2)
            m4 = 0.25 * m3 + 0.75 * (v4 - v3)
            values = {"average": v4, "inner": (v1 + v2 + v3 + v4) / 4, "momentum": v4 + m4}
            for name, value in values.items():
                by_prompt[name] = torch.cat([by_prompt[name], value[None]])
        for name, values in by_prompt.items():
            expected[name].append(values.mean(dim=0))
    for about, vector in found.items():
        variant, depth = about.split(",")[0], len(vector.layers)
        wanted = torch.stack(expected[variant][:depth])
        torch.testing.assert_close(vector.values, wanted, atol=1e-4, rtol=1e-4)
        assert vector.operation == "replace"
        assert vector.sites[0].component == "z"
        assert vector.layers == tuple(range(depth))


def test_the_heads_of_the_first_layers_are_replaced_at_the_last_token_of_zero_shot_prompts(
    tiny_model: Any, bench_of: Any, mixed: Any
) -> None:
    from contextlib import ExitStack

    context = bench_of(tiny_model("gemma2"), mixed, sizes=(6, 3, 2))
    (one,) = state_vector(context, StateVector(variants=("inner",), depths=(2,)))
    (scores,) = score_candidates(context, "validation", [one])
    for index, prompt in enumerate(context.prompts("validation")):
        last = len(prompt.token_ids) - 1

        def overwrite(z: torch.Tensor, layer: int, last: int = last) -> torch.Tensor:
            z = z.clone()
            z[0, last] = one.vector.values[layer]
            return z

        tokens = prompt.token_ids + prompt.answer_ids[:-1]
        with torch.no_grad(), ExitStack() as stack:
            for layer in (0, 1):
                stack.enter_context(
                    patch(context.model, layer, "z", lambda z, i=layer: overwrite(z, i))
                )
            logits = context.model.hf(input_ids=torch.tensor([tokens])).logits[0, last:]
        own = logits.log_softmax(dim=1)[torch.arange(len(prompt.answer_ids)), prompt.answer_ids]
        assert float(scores.log_probability[0, index]) == pytest.approx(float(own.mean()), abs=1e-4)


def test_without_momentum_the_step_is_the_last_difference() -> None:
    states = torch.randn(2, 3, 5, 4)
    last = states[:, :, -1]
    step = last - states[:, :, -2]
    torch.testing.assert_close(refine(states, "momentum", 0.0), last + step)
    one = states[:, :, :1]  # one demonstration: nothing to step along
    for variant in OURS:
        torch.testing.assert_close(refine(one, variant, 0.5), one[:, :, 0])


@pytest.mark.parametrize("depths", [(0,), (2, 5)])
def test_depths_are_numbers_of_blocks(tiny_model: Any, bench_of: Any, depths: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="give numbers from 1 to 4"):
        state_vector(bench_of(tiny_model("llama")), StateVector(depths=depths))


def test_the_released_variants_are_what_the_released_code_computes_step_by_step() -> None:
    states = torch.randn(2, 3, 9, 4)
    v = [states[:, :, step] for step in range(9)]
    mean = sum(v[2:]) / 7
    torch.testing.assert_close(refine(states, "fixed", 0.5), mean)
    # their loop: differences of the states and then the mean, the last of weight 0
    steps, weights = [*v[:8], mean], [1, 2, 4, 8, 16, 0]
    added = torch.zeros_like(mean)
    for number, at in enumerate(range(len(steps) - len(weights), len(steps))):
        added += (steps[at] - steps[at - 1]) * weights[number] / sum(weights)
    torch.testing.assert_close(refine(states, "fix-one-step", 0.5), mean + added)


def test_the_released_variants_need_seven_demonstrations(
    tiny_model: Any, bench_of: Any, mixed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    few = bench_of(tiny_model("llama"), mixed, sizes=(9, 2, 2), shots=6)
    found = state_vector(few, StateVector(n_prompts=1, depths=(1,)))
    assert [one.configuration.split(",")[0] for one in found] == [*OURS]
    assert "with 6 shots they are not tried" in caplog.text
    with pytest.raises(TaskVectorsError, match="give --shots 7 or more"):
        state_vector(few, StateVector(variants=("fixed",)))
    enough = bench_of(tiny_model("llama"), mixed, sizes=(9, 2, 2), shots=7)
    found = state_vector(enough, StateVector(n_prompts=1, depths=(1,)))
    assert [one.configuration.split(",")[0] for one in found] == [*OURS, *RELEASED]
