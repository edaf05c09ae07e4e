"""What methods share: prompts drawn once, states as in whole passes, layers as they are named.

Run with `pytest tests/methods/test_workbench.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, MemoryBudgetError, UnsupportedModelError
from taskvectors.methods import METHODS
from taskvectors.methods.shared.layers import layer_groups, layer_name
from taskvectors.trunk import Trunk, shape_of
from taskvectors.trunk.memory import trunk_bytes, work_bytes


def test_prompts_are_made_once_and_show_training_pairs_only(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    for split in ("train", "validation", "test"):
        prompts = context.prompts(split, 3)
        assert context.prompts(split, 3) is prompts
        assert tuple(prompt.query for prompt in prompts) == getattr(context.task, split)
        for prompt in prompts:
            assert len(prompt.demonstrations) == 3
            assert set(prompt.demonstrations) <= set(context.task.train) - {prompt.query}
        assert {len(prompt.demonstrations) for prompt in context.prompts(split)} == {0}


def test_the_seed_draws_other_demonstrations(tiny_model: Any, bench_of: Any) -> None:
    shown = [bench_of(tiny_model("llama"), seed=seed).prompts("test", 3) for seed in (0, 1)]
    assert shown[0] != shown[1]


def test_the_template_is_the_tasks_own_unless_another_is_asked_for(
    tiny_model: Any, bench_of: Any
) -> None:
    model = tiny_model("llama")
    assert bench_of(model).prompts("test")[0].text.endswith(" ->")
    assert bench_of(model, template="qa").prompts("test")[0].text.startswith("Q: ")


def test_last_states_are_those_of_whole_passes(
    tiny_model: Any, bench_of: Any, states_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(5, 2, 2))
    found = context.last_states("train", 2)
    expected = torch.stack(
        [states_of(context.model, prompt)[:, -1] for prompt in context.prompts("train", 2)], dim=1
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        context.last_states("train", 2, 3), expected[:, :3], atol=1e-4, rtol=1e-4
    )


def test_methods_that_read_the_same_things_share_them(
    tiny_model: Any, bench_of: Any, mixed: Any, body_calls: Any
) -> None:
    """Forward passes in one context: each thing is run by the first method that needs it."""
    context = bench_of(tiny_model("gemma2"), mixed, sizes=(8, 4, 2))
    few = {"n_prompts": 6}
    effects = few | {"n_effect_prompts": 3, "n_heads": (2,)}
    search = few | {"steps": 2, "batch_size": 4, "check_every": 1}
    # a trunk is two passes: what comes before the cut, and what comes after
    expected = [
        ("vanilla", few, 4),  # with demonstrations, and without
        ("hendel", few, 0),
        ("function-vector", effects, 2),  # the label-shuffled prompts
        ("function-vector-attribution", effects, 0),
        ("learned-heads", search, 4),  # training and validation prompts
        ("multi-head", search, 0),
    ]
    calls = body_calls(context.model)
    for name, about, passes in expected:
        calls.clear()
        METHODS[name].find(context, METHODS[name].config(**about))
        assert len(calls) == passes, name


def test_what_is_asked_for_twice_is_made_once(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    made = []
    assert [context.cached("one", lambda: made.append(1)) for _ in range(3)] == [None] * 3
    context.cached("other", lambda: made.append(2))
    assert made == [1, 2]


def test_states_at_any_one_token_are_those_of_whole_passes(
    tiny_model: Any, bench_of: Any, states_of: Any, mixed: Any
) -> None:
    context = bench_of(tiny_model("gpt_neox"), mixed, sizes=(5, 2, 2))
    prompts = context.prompts("train", 2)
    for position in ("query_last", "separator_2"):
        at = [prompt.spans[position.replace("_last", "")][1] - 1 for prompt in prompts]
        expected = [states_of(context.model, p)[:, i] for p, i in zip(prompts, at, strict=True)]
        found = context.states(prompts, position)
        torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_no_state_is_computed_twice(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = bench_of(tiny_model("llama"))
    sizes = []
    build = Trunk.build

    def counted(model: Any, prompts: Any, **rest: Any) -> Trunk:
        sizes.append(len(prompts))
        return build(model, prompts, **rest)

    monkeypatch.setattr(Trunk, "build", counted)
    few = context.last_states("train", 2, 3)
    assert torch.equal(context.last_states("train", 2)[:, :3], few)  # only the others run
    context.last_states("train", 2)
    context.states(context.prompts("train", 2)[2:5])
    assert sizes == [3, 9]
    context.states(context.prompts("train", 2)[:2], "query_last")
    assert sizes == [3, 9, 2]


def test_last_states_are_the_same_in_chunks_that_fit_a_small_budget(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    whole = bench_of(model).last_states("train", 2)
    shape = shape_of(bench_of(model).prompts("train", 2), (-1,), n_branches=0)
    memory = 5 * (trunk_bytes(model, shape) + work_bytes(model, shape))
    context = bench_of(model, memory=memory)
    sizes = []
    build = Trunk.build

    def counted(model: Any, prompts: Any, **rest: Any) -> Trunk:
        sizes.append(len(prompts))
        return build(model, prompts, **rest)

    monkeypatch.setattr(Trunk, "build", counted)
    torch.testing.assert_close(context.last_states("train", 2), whole, atol=1e-4, rtol=1e-4)
    assert sum(sizes) == len(context.prompts("train", 2))
    assert 1 < max(sizes) <= 5
    with pytest.raises(MemoryBudgetError):
        bench_of(model, memory=1000).last_states("test", 2)


def test_methods_share_the_states_that_they_read(
    tiny_model: Any, bench_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskvectors.methods import METHODS

    context = bench_of(tiny_model("llama"), sizes=(12, 4, 2))
    sizes: list[int] = []
    build = Trunk.build

    def counted(model: Any, prompts: Any, **rest: Any) -> Trunk:
        sizes.append(len(prompts))
        return build(model, prompts, **rest)

    monkeypatch.setattr(Trunk, "build", counted)
    run = []
    for name in ("vanilla", "multi-injection", "linear"):
        METHODS[name].find(context, METHODS[name].config())
        run.append(sum(sizes))
        sizes.clear()
    # all training prompts with and without demonstrations; nothing; and of the validation split
    # those without demonstrations, with them, and the edited ones
    assert run == [24, 0, 12]


def test_labels_are_known_only_when_training_shows_them_all(tiny_model: Any, bench_of: Any) -> None:
    model = tiny_model("llama")
    assert set(bench_of(model, lambda i: ("cold", "small")[i % 2]).labels) == {"cold", "small"}
    assert bench_of(model, lambda i: "small" if i == 20 else "cold").labels is None


def test_a_split_without_pairs_is_an_error_where_it_is_needed(
    tiny_model: Any, bench_of: Any
) -> None:
    context = bench_of(tiny_model("llama"), sizes=(6, 0, 3))
    with pytest.raises(DataError, match="the validation split of small has no pairs"):
        context.prompts("validation")
    assert len(context.label_starts) == 1


def test_label_starts_cover_all_splits(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"), lambda i: "small" if i == 20 else "cold")
    encoded = (context.model.tokenizer(word)["input_ids"][1] for word in (" cold", " small"))
    assert context.label_starts == set(encoded)


def test_layers_are_one_vector_each_one_together_or_all_of_the_model(tiny_model: Any) -> None:
    model = tiny_model("llama")
    assert layer_groups(model, None, each_layer=False) == [[0], [1], [2], [3]]
    assert layer_groups(model, ("embed", 2), each_layer=False) == [[-1, 2]]
    assert layer_groups(model, ("embed", 2), each_layer=True) == [[-1], [2]]
    assert [layer_name(layer) for layer in (-1, 2)] == ["embed", 2]
    with pytest.raises(UnsupportedModelError, match="layer 4 does not exist"):
        layer_groups(model, (1, 4), each_layer=False)
