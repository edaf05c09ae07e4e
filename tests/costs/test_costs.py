"""What work will cost: sizes without weights, counts against the real run, figures that add up.

Run with `pytest tests/costs`. Nothing here depends on time; `benchmarks/estimate.py` compares that.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from costs.made_up import DEVICE
from recipes import from_zero
from torch.utils.flop_counter import FlopCounterMode

from taskvectors.costs import (
    GPUS,
    Device,
    cost_of,
    costs_of,
    devices_needed,
    find_device,
    room_beside,
    total,
    weight_bytes,
    with_ceilings,
)
from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.learners import preset_of
from taskvectors.learners.costs import train_cost
from taskvectors.methods import Plan, RunContext
from taskvectors.methods.learned import Learned, learned
from taskvectors.methods.shared.method import plan_of
from taskvectors.methods.vanilla import Vanilla
from taskvectors.models import LanguageModel, known_shapes, load_meta_model, load_model
from taskvectors.tasks import Example, Task, load_task
from taskvectors.trunk import Edit, Trunk
from taskvectors.trunk.memory import trunk_bytes
from taskvectors.trunk.work import Work, work_of

Make = Callable[..., LanguageModel]
ROOM = 1e12


@pytest.fixture
def context(tiny_model: Make) -> RunContext:
    pairs = [Example(input=f"in{i}", output=f"out {i}") for i in range(24)]
    task = Task(
        name="pairs",
        description="",
        template="qa",
        source="",
        license="",
        seed=0,
        train=tuple(pairs[:12]),
        validation=tuple(pairs[12:18]),
        test=tuple(pairs[18:]),
    )
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def test_a_model_without_weights_has_the_sizes_of_the_real_one(
    fresh_model: Make, tmp_path: Path, tiny_kind: str
) -> None:
    real = fresh_model(tiny_kind)
    path = tmp_path / "config.json"
    path.write_text(real.hf.config.to_json_string())
    bare = load_meta_model(str(path), dtype="float32")
    assert bare.device.type == "meta"
    for name in ("n_layers", "d_model", "n_heads", "n_key_value_heads", "d_head", "d_vocab"):
        assert getattr(bare, name) == getattr(real, name), name
    assert weight_bytes(bare) == weight_bytes(real)


def test_the_known_shapes_are_as_large_as_their_names_say() -> None:
    billions = {"llama-3.1-8b": 8.03, "llama-3.1-70b": 70.6, "llama-3.1-405b": 405.9}
    assert {*billions, "smollm2-135m"} == set(known_shapes())
    for name, size in billions.items():
        assert weight_bytes(load_meta_model(name)) / 2e9 == pytest.approx(size, rel=0.005)


def test_what_is_no_model_is_an_error_that_says_what_is(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    with pytest.raises(TaskVectorsError, match=r"no config of a model.*llama-3\.1-405b"):
        load_meta_model(str(path))
    path.write_text('{"model_type": "qwen2", "num_hidden_layers": 1000000000}')
    with pytest.raises(TaskVectorsError, match=r"more than 10000 layers is not made"):
        load_meta_model(str(path))
    path.write_text('{"model_type": "llama", "num_hidden_layers": "four"}')
    with pytest.raises(TaskVectorsError, match=r"no config of a model.*num_hidden_layers"):
        load_meta_model(str(path))


def test_operations_are_those_that_torch_counts(tiny_model: Make, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 6, lengths=(9, 9), answers=(2, 2))
    layers = [0, 2]
    work = work_of("step", prompts, (-1,), layers, model.n_layers, is_training=True)
    trunk = Trunk.build(model, prompts)
    theta = torch.zeros(model.d_model, requires_grad=True)
    with FlopCounterMode(display=False) as counted:
        states = trunk.run([[Edit(layer=layer, value=theta)] for layer in layers], trunk.batch())
        trunk.answer_losses(states, trunk.batch()).sum().backward()
    alone = replace(work, has_trunk=True)
    cost = cost_of(model, alone, DEVICE, budget=ROOM)
    assert cost.flops == pytest.approx(counted.get_total_flops(), rel=0.15)
    with FlopCounterMode(display=False) as counted:
        Trunk.build(model, prompts)
    built = cost_of(model, replace(work, n_passes=0), DEVICE, budget=ROOM)
    assert built.flops == pytest.approx(counted.get_total_flops(), rel=0.15)


def test_tokens_and_trunk_are_those_of_the_engine(tiny_model: Make, ragged_prompts: Any) -> None:
    model = tiny_model("llama")
    prompts = ragged_prompts(model, 5, lengths=(9, 9), answers=(2, 2))
    theta = torch.zeros(model.d_model)
    trunk = Trunk.build(model, prompts)
    work = work_of("scores", prompts, (-1,), [1, 3], model.n_layers)
    cost = cost_of(model, work, DEVICE, budget=ROOM)
    branches = [[Edit(layer=layer, value=theta)] for layer in (1, 3)]
    assert cost.forward_tokens == trunk.tokens_run(branches)
    assert cost.trunk_bytes == 5 * trunk_bytes(model, work.shape)
    assert cost.trunk_bytes == pytest.approx(trunk.bytes_held, rel=0.1)


def test_learning_is_estimated_with_the_tokens_that_it_runs(context: RunContext) -> None:
    recipe = from_zero(steps=4, batch_size=4, check_every=2, patience=None)
    config = Learned(layers=(1,), recipe=recipe)
    found = learned(context, config)[0].cost
    works = plan_of(context, config).made(context)
    costs = [cost_of(context.model, work, DEVICE, budget=ROOM) for work in works]
    assert [cost.name for cost in costs] == ["learned, steps", "learned, checks"]
    assert total(costs).forward_tokens == pytest.approx(found.forward_tokens, rel=0.1)


def test_what_is_kept_is_not_run_again(context: RunContext) -> None:
    plan = plan_of(context, Vanilla())
    once = costs_of(context.model, plan.found, DEVICE, budget=ROOM)
    assert costs_of(context.model, plan.found * 2, DEVICE, budget=ROOM) == once
    scored = plan.chosen(context)
    first, second = costs_of(context.model, scored * 2, DEVICE, budget=ROOM)
    assert second.forward_tokens < first.forward_tokens
    work_dir = 4 * first.trunk_bytes
    fits = costs_of(context.model, scored * 2, DEVICE, budget=max(work_dir, first.peak_bytes))
    assert fits[1].forward_tokens == second.forward_tokens


def test_learning_at_all_layers_costs_more_than_at_one(context: RunContext) -> None:
    def cost(**at: Any) -> Any:
        works = plan_of(context, Learned(**at)).made(context)
        return total([cost_of(context.model, w, DEVICE, budget=ROOM) for w in works])

    every, one = cost(), cost(layers=(1,))
    assert every.seconds > one.seconds
    assert every.peak_bytes > one.peak_bytes
    assert every.flops > one.flops


def test_prompts_that_do_not_fit_are_refused_with_what_would(context: RunContext) -> None:
    (work,) = Plan(joins=(-1, 2)).tested(context)
    with pytest.raises(MemoryBudgetError, match="are granted"):
        cost_of(context.model, work, DEVICE, budget=1000)


def test_a_large_model_takes_several_devices() -> None:
    model = load_meta_model("llama-3.1-405b")
    cost = cost_of(
        model,
        Work(
            name="nothing",
            n_prompts=1,
            tokens=4,
            shape=_shape(),
            n_passes=0,
        ),
        GPUS["h100"],
        budget=room_beside(weight_bytes(model), GPUS["h100"]),
    )
    assert cost.peak_bytes > weight_bytes(model)
    assert devices_needed(cost, GPUS["h100"]) == 12
    assert devices_needed(cost, GPUS["h200"]) == 7


def _shape() -> Any:
    from taskvectors.trunk import Shape

    return Shape(prefix=2, suffix=2, n_branches=0)


def test_devices_are_named_and_their_ceilings_can_be_stated() -> None:
    with pytest.raises(
        TaskVectorsError, match="no device 'v100'; there are local, cpu, cuda, a100"
    ):
        find_device("v100", torch.bfloat16)
    assert find_device("h100", torch.float32).flops < find_device("h100", torch.bfloat16).flops
    stated = with_ceilings(GPUS["a100"], flops=1e14, memory=None)
    assert stated.flops == 1e14
    assert stated.bandwidth == GPUS["a100"].bandwidth
    assert stated.source.endswith("stated: flops")
    assert with_ceilings(GPUS["a100"], flops=None) is GPUS["a100"]


def test_this_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    from taskvectors.costs import devices

    measured: list[torch.dtype] = []

    def measure(device: torch.device, dtype: torch.dtype) -> Device:
        measured.append(dtype)
        return DEVICE

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(devices, "measure_device", measure)
    assert find_device("local", torch.float32) == DEVICE
    assert find_device("local", torch.float32) == DEVICE
    assert len(measured) == 1
    find_device("local", torch.float32, measure_again=True)
    assert len(measured) == 2
    assert find_device("cpu", torch.float32) == DEVICE
    assert len(measured) == 2
    (kept,) = (tmp_path / "devices").iterdir()
    assert json.loads(kept.read_text())["name"] == "even"
    kept.write_text('{"name": "of another version"}')
    assert find_device("local", torch.float32) == DEVICE
    assert len(measured) == 3


def test_what_is_measured_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    from taskvectors.costs import devices

    monkeypatch.setattr(devices, "_ROWS", 8)
    monkeypatch.setattr(devices, "_WIDTH", 64)
    monkeypatch.setattr(devices, "_COPIED", 2**12)
    found = devices.measure_device(torch.device("cpu"), torch.float32)
    assert min(found.flops, found.bandwidth, found.weight_bandwidth, found.memory) > 0
    assert min(found.block_seconds, found.step_seconds, found.logit_seconds) > 0
    assert "float32" in found.source


def test_training_learners_counts_shared_steps_once() -> None:
    config = preset_of("offset")
    one = train_cost(config.model_copy(update={"tvp_layers": (None,)}), DEVICE)
    two = train_cost(config, DEVICE)
    assert one.flops < two.flops < 2.5 * one.flops
    assert train_cost(config.model_copy(update={"seeds": (0, 1)}), DEVICE).flops == 2 * two.flops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["capital", "antonym", "english-french", "sentiment"])
def test_the_stand_in_counts_like_a_real_tokenizer(name: str) -> None:
    from taskvectors.models.meta_model import stand_in_tokenizer

    task = load_task(name)
    counts = []
    for tokenizer in (load_model("embedded").tokenizer, stand_in_tokenizer()):
        context = RunContext(model=_counting(tokenizer), task=task)
        prompts = context.prompts("test", 8)
        counts.append(sum(len(p.token_ids) + len(p.answer_ids) for p in prompts))
    assert counts[1] == pytest.approx(counts[0], rel=0.1)


def _counting(tokenizer: Any) -> LanguageModel:
    model = load_meta_model("smollm2-135m")
    return replace(model, tokenizer=tokenizer)
