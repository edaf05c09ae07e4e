"""`vanilla` against a loop over prompts.

Run with `pytest tests/methods/test_vanilla.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.vectors import sites_at


@pytest.fixture
def by_loop(states_of: Any) -> Any:
    """`by_loop(context, n)`: mean of h(shown) - h(plain) at the last token, `[layer, d_model]`."""

    def run(context: Any, n: int) -> torch.Tensor:
        total = 0
        for index in range(n):
            shown, plain = (context.prompts("train", k)[index] for k in (context.shots, 0))
            assert shown.query == plain.query
            states = [states_of(context.model, prompt)[:, -1] for prompt in (shown, plain)]
            total = total + states[0] - states[1]
        return total / n

    return run


def test_the_vector_is_what_demonstrations_change_at_the_last_token(
    tiny_model: Any, bench_of: Any, mixed: Any, by_loop: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(6, 2, 2))
    expected = by_loop(context, 6)
    candidates = vanilla(context, Vanilla(strengths=(1.0,)))
    assert [one.vector.sites for one in candidates] == [sites_at([i], [-1]) for i in range(4)]
    for one in candidates:
        value = one.vector.values[0]
        torch.testing.assert_close(value, expected[one.vector.layers[0] + 1], atol=1e-4, rtol=1e-4)
    assert len({one.vector.norm() for one in candidates}) == 4


def test_several_layers_get_each_its_own_difference_and_positions_the_same(
    tiny_model: Any, bench_of: Any, by_loop: Any
) -> None:
    context = bench_of(tiny_model("llama"), sizes=(4, 2, 2))
    expected = by_loop(context, 4)
    config = Vanilla(layers=("embed", 1, 3), positions=(-1, -4), strengths=(1.0,))
    (one,) = vanilla(context, config)
    for site, value in zip(one.vector.sites, one.vector.values, strict=True):
        torch.testing.assert_close(value, expected[site.layer + 1], atol=1e-4, rtol=1e-4)
    # the last token of all prompts is the same piece of text, so its embedding does not differ
    assert not one.vector.values[:2].any()


def test_only_so_many_prompts_are_averaged_and_paid_for(
    tiny_model: Any, bench_of: Any, by_loop: Any
) -> None:
    context = bench_of(tiny_model("llama"))
    (one,) = vanilla(context, Vanilla(layers=(2,), strengths=(1.0,), n_prompts=3))
    torch.testing.assert_close(one.vector.values[0], by_loop(context, 3)[3], atol=1e-4, rtol=1e-4)
    read = [p for shots in (0, 2) for p in context.prompts("train", shots)[:3]]
    assert one.cost.forward_tokens == sum(len(prompt.token_ids) for prompt in read)
    assert one.cost.parameters == 0
    assert one.cost.examples == 12  # demonstrations come from all of them


def test_each_strength_is_a_candidate_with_the_same_vector(tiny_model: Any, bench_of: Any) -> None:
    found = vanilla(bench_of(tiny_model("llama")), Vanilla(layers=(1,), strengths=(1.0, -0.5, 3.0)))
    assert [one.strength for one in found] == [1.0, -0.5, 3.0]
    assert len({id(one.vector.values) for one in found}) == 1  # held once
    assert all(one.shots == 0 for one in found)
    value = found[1].vector.values[0]
    torch.testing.assert_close(found[1].branch(())[0].value, -0.5 * value.unsqueeze(0))


def test_the_difference_is_zero_where_there_are_no_demonstrations(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"))
    assert context.demonstrations_effect().any()
    context.shots = 0
    assert not context.demonstrations_effect().any()
