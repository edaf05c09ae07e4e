"""Memory is planned: shapes by hand, budgets as they are written, and advice that is enough.

Run with `pytest tests/trunk/test_memory.py`.
"""

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from full_pass import places_in
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taskvectors.errors import MemoryBudgetError
from taskvectors.trunk import Edit, Shape, Trunk, memory, prompts_that_fit, resolve_budget, shape_of
from taskvectors.trunk.memory import (
    Kept,
    logits_that_fit,
    plan_training,
    readable,
    trunk_bytes,
    work_bytes,
)

CPU = torch.device("cpu")


# --- shapes


@pytest.mark.parametrize("positions", [(-1,), (4, -1), (-5, -2), ("query",), ("cue", 3), ()])
def test_a_shape_is_that_of_the_longest_prefix_and_the_longest_suffix(
    tiny_model: Any, ragged_prompts: Any, positions: tuple[int | str, ...]
) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 9, answers=(1, 4))
    starts, suffixes = [], []
    for prompt in prompts:
        start = min([len(prompt.token_ids) - 1, *places_in(prompt, positions)])
        starts.append(start)
        # the last token of the answer is never read
        suffixes.append(len(prompt.token_ids + prompt.answer_ids[:-1]) - start)
    found = shape_of(prompts, positions, n_branches=3, is_training=True)
    assert found == Shape(prefix=max(starts), suffix=max(suffixes), n_branches=3, is_training=True)
    built = Trunk.build(model, prompts, positions=positions)
    assert (built.cut.tokens.prefix.shape[1], built.suffix) == (found.prefix, found.suffix)


def test_the_estimate_of_a_trunk_covers_what_it_keeps(
    tiny_model: Any, ragged_prompts: Any, tiny_name: str
) -> None:
    model = tiny_model(tiny_name)
    prompts = ragged_prompts(model, 8, lengths=(40, 40), answers=(2, 2))
    trunk = Trunk.build(model, prompts)
    expected = 8 * trunk_bytes(model, shape_of(prompts, (-1,), n_branches=1))
    assert 0.5 * trunk.bytes_held < expected < 2 * trunk.bytes_held


class Held(TorchDispatchMode):
    """Bytes of all tensors that are made inside and still there, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
                self.peak = max(self.peak, self.now)
        return out

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize(
    "name", ["llama", "qwen3_5_text", "nemotron_h", "bloom", "mamba", "deepseek_v32"]
)
def test_the_estimate_covers_the_peak_of_branches_on_every_engine(
    tiny_model: Any, ragged_prompts: Any, name: str, is_training: bool
) -> None:
    model = tiny_model(name)
    prompts = ragged_prompts(model, 3, lengths=(40, 40), answers=(1, 1))
    shape = shape_of(prompts, (-3,), n_branches=4, is_training=is_training)
    trunk = Trunk.build(model, prompts, positions=(-3,))
    assert 3 * trunk_bytes(model, shape) > 0.5 * trunk.bytes_held
    value = torch.ones(model.d_model, requires_grad=is_training)
    held = Held()
    with held, torch.set_grad_enabled(is_training):
        states = trunk.run([[Edit(layer=0, value=value, positions=(-3, -1))]] * 4)
        if is_training:
            trunk.answer_losses(states, trunk.batch()).sum().backward()
    assert held.peak < 3 * work_bytes(model, shape) < 8 * held.peak


def test_more_of_anything_needs_more(tiny_model: Any) -> None:
    model = tiny_model("llama")
    least = Shape(prefix=20, suffix=2, n_branches=1)
    changes: list[dict[str, Any]] = [
        {"prefix": 40},
        {"suffix": 4},
        {"n_branches": 12},
        {"n_branches": 4, "is_training": True},
    ]

    def total(shape: Shape) -> int:
        return trunk_bytes(model, shape) + work_bytes(model, shape)

    for change in changes:
        assert total(replace(least, **change)) > total(least), change
    several = replace(least, n_branches=4)
    assert total(replace(several, is_training=True)) > total(several)


# --- how many fit


def test_as_many_prompts_fit_as_the_budget_holds_whole_ones(tiny_model: Any) -> None:
    model = tiny_model("llama")
    shape = Shape(prefix=20, suffix=3, n_branches=2)
    each = trunk_bytes(model, shape) + work_bytes(model, shape)
    for n in (1, 2, 17):
        assert prompts_that_fit(model, shape, n * each) == n
        assert prompts_that_fit(model, shape, n * each + each - 1) == n


@pytest.mark.parametrize("n_branches", [0, 1, 6])
def test_a_prompt_that_does_not_fit_is_an_error_whose_advice_is_enough(
    tiny_model: Any, n_branches: int
) -> None:
    model = tiny_model("llama")
    shape = Shape(prefix=200, suffix=3, n_branches=n_branches)
    each = trunk_bytes(model, shape) + work_bytes(model, shape)
    with pytest.raises(MemoryBudgetError) as caught:
        prompts_that_fit(model, shape, each - 1)
    said = str(caught.value)
    assert "one prompt of 203 tokens" in said
    assert ("fewer branches at once than 6" in said) == (n_branches == 6)
    advised = said.split("Grant --memory ")[1].split(maxsplit=1)[0]
    assert prompts_that_fit(model, shape, resolve_budget(advised, CPU)) == 1


def test_what_is_held_meanwhile_leaves_less_room(tiny_model: Any) -> None:
    model = tiny_model("llama")
    shape = Shape(prefix=20, suffix=3, n_branches=2)
    each = trunk_bytes(model, shape) + work_bytes(model, shape)
    assert prompts_that_fit(model, shape, 5 * each, held=2 * each) == 3
    with pytest.raises(MemoryBudgetError) as caught:
        prompts_that_fit(model, shape, 2 * each, held=2 * each)
    advised = str(caught.value).split("Grant --memory ")[1].split(maxsplit=1)[0]
    assert prompts_that_fit(model, shape, resolve_budget(advised, CPU), held=2 * each) == 1


# --- learning


def kept(n: int, **about: Any) -> Kept:
    return Kept(shape=Shape(prefix=20, suffix=3, n_branches=4, **about), n_prompts=n)


def test_learning_holds_both_trunks_beside_a_step_and_checks_in_pieces(tiny_model: Any) -> None:
    model = tiny_model("llama")
    train, validation = kept(12, is_training=True), kept(6)
    trunks = sum(k.n_prompts * trunk_bytes(model, k.shape) for k in (train, validation))
    step, check = 5 * work_bytes(model, train.shape), work_bytes(model, validation.shape)
    assert step > check
    plan = plan_training(model, train, validation, batch_size=5, budget=trunks + step)
    assert plan.rows_per_check == step // check
    plain = work_bytes(model, replace(validation.shape, n_branches=0))
    assert plan.rows_per_pass == step // plain
    with pytest.raises(MemoryBudgetError) as caught:
        plan_training(model, train, validation, batch_size=5, budget=trunks + step - 1)
    advised = resolve_budget(str(caught.value).split("grant --memory ")[1].split()[0], CPU)
    assert plan_training(model, train, validation, batch_size=5, budget=advised)


def test_a_larger_validation_split_needs_more_to_learn(tiny_model: Any) -> None:
    model = tiny_model("llama")
    train, few, many = kept(12, is_training=True), kept(6), kept(500)
    trunks = sum(k.n_prompts * trunk_bytes(model, k.shape) for k in (train, few))
    budget = trunks + 12 * work_bytes(model, train.shape)
    plan_training(model, train, few, batch_size=12, budget=budget)
    with pytest.raises(MemoryBudgetError, match="that of 500 validation prompts"):
        plan_training(model, train, many, batch_size=12, budget=budget)


def test_logits_are_counted_whole_and_worked_on_in_pieces(tiny_model: Any) -> None:
    model = tiny_model("llama")
    held, each = 4 * model.d_vocab * 10, 20 * model.d_vocab
    assert logits_that_fit(model, 10, held + 3 * each) == 3
    with pytest.raises(MemoryBudgetError, match=f"logits of 10 prompts over {model.d_vocab}"):
        logits_that_fit(model, 10, held + each - 1)


# --- budgets as they are written


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("4GB", 4 * 10**9),
        ("800MB", 8 * 10**8),
        ("1.5 gb", 1_500_000_000),
        (" 2g ", 2 * 10**9),
        ("2GiB", 2 * 10**9),
        ("12k", 12_000),
        ("1T", 10**12),
        ("1000", 1000),
        ("7b", 7),
        (123_456, 123_456),
    ],
)
def test_a_budget_is_read_as_people_write_it(stated: str | int, expected: int) -> None:
    assert memory.bytes_stated(stated) == expected


@pytest.mark.parametrize("stated", ["lots", "", "GB", "-1GB", "4 apples", "1,5GB", "4GBs"])
def test_a_budget_that_cannot_be_read_is_an_error_with_an_example(stated: str) -> None:
    with pytest.raises(MemoryBudgetError, match=f"memory '{stated}' cannot be read; write it as"):
        resolve_budget(stated, CPU)


@pytest.mark.parametrize("stated", [0, -5, "0GB", "0.0001k"])
def test_a_budget_of_nothing_is_an_error(stated: str | int) -> None:
    with pytest.raises(MemoryBudgetError, match="leaves nothing to work with"):
        resolve_budget(stated, CPU)


def test_a_budget_above_what_the_machine_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "all_bytes", lambda device: 10**9)
    assert resolve_budget("1GB", CPU) == 10**9
    with pytest.raises(MemoryBudgetError, match=r"'1.1GB' is more than there is: cpu has 1GB"):
        resolve_budget("1.1GB", CPU)


def test_without_a_budget_a_share_of_the_free_memory_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1001)
    assert resolve_budget(None, CPU) == 500


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    import psutil

    assert 0 < memory.free_bytes(CPU) <= psutil.virtual_memory().total


# --- sizes for people


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (999, "999B"),
        (1000, "1kB"),
        (1001, "1.1kB"),
        (1_300_000_000, "1.3GB"),
        (1_300_000_001, "1.4GB"),
        (25 * 10**6, "25MB"),
        (0, "0B"),
    ],
)
def test_a_size_is_rounded_up_to_a_tenth(size: int, expected: str) -> None:
    assert readable(size) == expected


@given(st.integers(1, 10**13))
def test_a_size_for_people_can_be_granted_and_is_enough(size: int) -> None:
    assert size <= memory.bytes_stated(readable(size)) <= 1.1 * size + 1
