"""Trunks that are shared: what is run once, what is run again, and what is let go.

Run with `pytest tests/trunk/test_kept.py`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from taskvectors.errors import MemoryBudgetError
from taskvectors.models import LanguageModel, engines
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk, TrunkCache, cache

ROOMY = 10**9


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each forward pass is of, as they happen."""
    seen: list[int] = []
    plain = engines.record

    def record(model: LanguageModel, tokens: Any, **about: Any) -> Any:
        seen.append(len(tokens))
        return plain(model, tokens, **about)

    monkeypatch.setattr(engines, "record", record)
    return seen


@pytest.fixture
def llama(tiny_model: Any) -> LanguageModel:
    model: LanguageModel = tiny_model("llama")
    assert model.engine == "trunk"  # found before passes are counted
    return model


@pytest.fixture
def prompts(llama: LanguageModel, ragged_prompts: Any) -> Sequence[Prompt]:
    asked: Sequence[Prompt] = ragged_prompts(llama, 4)
    return asked


def test_prompts_that_were_run_are_not_run_again(
    llama: LanguageModel, prompts: Sequence[Prompt], passes: list[int]
) -> None:
    trunks = TrunkCache(ROOMY)
    first = trunks.build(llama, prompts)
    assert trunks.build(llama, list(prompts), positions=("last",)) is first
    assert passes == [4]
    assert trunks.bytes_reused == first.bytes_held > 0


def test_a_shared_trunk_gives_what_one_of_its_own_gives(
    llama: LanguageModel, prompts: Sequence[Prompt]
) -> None:
    trunks = TrunkCache(ROOMY)
    branches = [[Edit(layer=1, value=torch.ones(llama.d_model))], []]
    trunks.build(llama, prompts, sites=[(0, "z")]).run(branches)
    again = trunks.build(llama, prompts).run(branches)
    assert torch.equal(again, Trunk.build(llama, prompts).run(branches))


def test_other_work_has_a_trunk_of_its_own(
    llama: LanguageModel, tiny_model: Any, prompts: Sequence[Prompt], passes: list[int]
) -> None:
    assert tiny_model("mistral").engine == "trunk"
    passes.clear()
    trunks = TrunkCache(ROOMY)
    longer = [replace(prompt, answer_ids=(*prompt.answer_ids, 7)) for prompt in prompts]
    trunks.build(llama, prompts)
    trunks.build(tiny_model("mistral"), prompts)
    trunks.build(llama, prompts, positions=(0,))
    trunks.build(llama, longer)
    trunks.build(llama, prompts[:3])
    assert passes == [4, 4, 4, 4, 3]
    trunks.build(llama, prompts, sites=[(2, "z")])  # not read at first
    trunks.build(llama, prompts, sites=[(2, "z")])
    assert passes[5:] == [4]


def test_the_one_not_used_for_longest_goes_first(
    llama: LanguageModel, prompts: Sequence[Prompt], passes: list[int]
) -> None:
    each = Trunk.build(llama, prompts).bytes_held
    trunks = TrunkCache(int(2.5 * each / cache.KEPT_SHARE))
    for positions in [(-1,), (-2,), (-1,)]:
        trunks.build(llama, prompts, positions=positions)
    assert trunks.bytes_held <= 2.5 * each
    trunks.build(llama, prompts, positions=(-3,))
    del passes[:]
    trunks.build(llama, prompts, positions=(-1,))
    assert passes == []
    trunks.build(llama, prompts, positions=(-2,))
    assert passes == [4]


def test_a_trunk_that_is_too_large_is_used_and_not_kept(
    llama: LanguageModel, prompts: Sequence[Prompt]
) -> None:
    trunks = TrunkCache(8)
    assert trunks.build(llama, prompts).n_prompts == 4
    assert trunks.bytes_held == 0


def test_work_is_planned_beside_the_kept_trunks_or_in_their_place(
    llama: LanguageModel, prompts: Sequence[Prompt]
) -> None:
    trunks = TrunkCache(ROOMY)
    trunks.build(llama, prompts)
    held = trunks.bytes_held

    def needing(size: int, budget: int) -> int:
        if size > budget:
            raise MemoryBudgetError("too little")
        return budget

    assert trunks.plan(llama, lambda budget: needing(ROOMY - held, budget)) == ROOMY - held
    assert trunks.bytes_held == held
    assert trunks.plan(llama, lambda budget: needing(ROOMY, budget)) == ROOMY
    assert trunks.bytes_held == 0
    with pytest.raises(MemoryBudgetError, match="too little"):
        trunks.plan(llama, lambda budget: needing(ROOMY + 1, budget))


def test_what_was_saved_counts_as_time(
    llama: LanguageModel, prompts: Sequence[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    trunks = TrunkCache(ROOMY)
    trunks.build(llama, prompts)  # reads the clock twice
    trunks.build(llama, prompts)
    assert trunks.clock() == 20 + 10
