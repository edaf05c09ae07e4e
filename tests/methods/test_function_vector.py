"""Function vectors against the formula: heads by effect, their mean results summed.

Run with `pytest tests/methods/test_function_vector.py`.
"""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.function_vector import (
    UNIVERSAL_TASKS,
    FunctionVector,
    function_vector,
    top_heads,
)
from taskvectors.methods.function_vector_attribution import (
    FunctionVectorAttribution,
    function_vector_attribution,
)
from taskvectors.methods.shared.head_means import head_means
from taskvectors.methods.shared.indirect_effect import indirect_effects, rank_correlation
from taskvectors.models.heads import head_results
from taskvectors.tasks import load_task
from taskvectors.tasks.builtin import builtin_tasks
from taskvectors.vectors import sites_at

SIZES: dict[str, Any] = {"n_prompts": 6, "n_effect_prompts": 3}
ONCE: dict[str, Any] = SIZES | {"strengths": (1.0,), "n_heads": (3,)}


@pytest.fixture
def context(tiny_model: Any, bench_of: Any, mixed: Any, tiny_kind: str) -> Any:
    return bench_of(tiny_model(tiny_kind), mixed, sizes=(6, 3, 2))


def largest(effects: torch.Tensor, n: int) -> list[tuple[int, int]]:
    """The heads with the largest effects, by sorting a list."""
    ranked = [(float(e), layer, h) for layer, row in enumerate(effects) for h, e in enumerate(row)]
    return [(layer, head) for _, layer, head in sorted(ranked, key=lambda one: -one[0])[:n]]


def test_the_vector_is_the_sum_of_the_mean_results_of_the_heads_with_the_largest_effects(
    context: Any,
) -> None:
    model = context.model
    effects = indirect_effects(context, "exact", n_prompts=3, n_means=6).average
    heads = largest(effects, 3)
    read = context.last_tokens("train", context.shots, 6).z
    expected = sum(
        head_results(model, layer, read[layer])[:, head].mean(dim=0) for layer, head in heads
    )
    found = function_vector(context, FunctionVector(**ONCE))
    assert [one.vector.sites for one in found] == [sites_at([i], [-1]) for i in range(4)]
    for one in found:
        torch.testing.assert_close(one.vector.values[0], expected, atol=1e-4, rtol=1e-4)
        assert one.vector.origin.settings["heads"] == [list(head) for head in heads]
        assert one.configuration == "top 3 heads"


def test_several_layers_repeat_one_vector_and_each_number_of_heads_is_tried(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    config = FunctionVector(layers=("embed", 2), n_heads=(1, 5), strengths=(1.0, 3.0), **SIZES)
    found = function_vector(context, config)
    assert [(one.configuration, one.strength) for one in found] == [
        ("top 1 heads", 1.0),
        ("top 1 heads", 3.0),
        ("top 5 heads", 1.0),
        ("top 5 heads", 3.0),
    ]
    for one in found:
        assert one.vector.layers == (-1, 2)
        assert torch.equal(one.vector.values[0], one.vector.values[1])
    assert found[0].vector.norm() != found[2].vector.norm()
    # a share is of all 16 heads of the model
    shared = FunctionVector(layers=(2,), n_heads=(0.3,), strengths=(1.0,), **SIZES)
    (as_share,) = function_vector(context, shared)
    assert as_share.configuration == "top 5 heads"
    assert torch.equal(as_share.vector.values[0], found[2].vector.values[0])
    for wrong in (0, -1, 1.5, 0.0):
        with pytest.raises(ValidationError):
            FunctionVector(n_heads=(wrong,))


def test_attribution_takes_its_own_heads_and_says_how_they_rank_against_the_exact_ones(
    context: Any,
) -> None:
    exact, attributed = (
        indirect_effects(context, how, n_prompts=3, n_means=6).average
        for how in ("exact", "attributed")
    )
    (one, *_) = function_vector_attribution(context, FunctionVectorAttribution(**ONCE))
    origin = one.vector.origin
    assert origin.settings["heads"] == [list(head) for head in largest(attributed, 3)]
    agreement = rank_correlation(exact.flatten(), attributed.flatten())
    assert origin.scores["rank_correlation_with_exact"] == pytest.approx(agreement)
    assert one.note.endswith(f"{agreement:.2f}")
    assert agreement > 0.3  # control: the two are about the same thing


def test_a_head_that_carries_the_task_is_found_and_with_its_output_the_answer(
    fresh_model: Any, bench_of: Any
) -> None:
    """Planted: one head writes the answer's direction where a demonstration has the right label.

    W_O of all other heads is zero, so nothing else has an effect at all.
    """
    model = fresh_model("llama")
    layer, head = 2, 1
    own = slice(head * model.d_head, (head + 1) * model.d_head)
    for block in range(model.n_layers):
        weight = model.part(block, "output_projection").weight
        kept = weight[:, own].clone()
        weight.zero_()
        if block == layer:
            weight[:, own] = kept
    context = bench_of(model)
    for how in ("exact", "attributed"):
        effects = indirect_effects(context, how, n_prompts=4, n_means=6).average
        is_silent = effects.abs() < 1e-9
        assert not bool(is_silent[layer, head])
        assert int(is_silent.sum()) == effects.numel() - 1


def test_universal_heads_come_from_other_tasks_and_results_from_this_one(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = __import__(function_vector.__module__, fromlist=["UNIVERSAL_TASKS"])
    monkeypatch.setattr(module, "UNIVERSAL_TASKS", ("capital", "antonym", "small"))
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    (one,) = function_vector(context, FunctionVector(layers=(1,), heads="universal", **ONCE))
    averages = []
    for name in ("capital", "antonym"):  # the task itself is left out
        task = load_task(name, seed=0, n_train=6, n_validation=3)
        other = type(context)(model=context.model, task=task, template=context.template, shots=2)
        averages.append(indirect_effects(other, "exact", n_prompts=3, n_means=6).average)
    heads = largest(torch.stack(averages).mean(dim=0), 3)
    assert one.vector.origin.settings["heads"] == [list(head) for head in heads]
    means = head_means(context, 6)
    expected = sum(means.results[head] for head in heads)
    torch.testing.assert_close(one.vector.values[0], expected, atol=1e-5, rtol=1e-4)
    assert one.cost.examples > len(context.task.train)


def test_universal_tasks_are_built_in() -> None:
    assert set(UNIVERSAL_TASKS) <= set(builtin_tasks())


def test_more_heads_than_there_are_is_an_error(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), sizes=(6, 3, 2))
    with pytest.raises(TaskVectorsError, match="17 heads were asked for, and the model has 16"):
        function_vector(context, FunctionVector(n_heads=(17,), **SIZES))


def test_equal_effects_keep_the_order_of_the_heads() -> None:
    assert top_heads(torch.zeros(2, 2), 3) == ((0, 0), (0, 1), (1, 0))
