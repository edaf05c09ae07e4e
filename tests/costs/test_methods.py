"""Plans of methods, analyses and controls: none is forgotten, and tokens are those that are run.

Run with `pytest tests/costs/test_methods.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from costs.made_up import DEVICE
from recipes import from_zero

from taskvectors.costs import (
    costs_of,
    total,
)
from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES, Sizes
from taskvectors.methods import METHODS, RunContext, plan_of
from taskvectors.methods.adaptive import Adaptive
from taskvectors.methods.controls import CONTROLS
from taskvectors.methods.learned import Learned
from taskvectors.models import LanguageModel
from taskvectors.tasks import Example, Task
from taskvectors.vectors import TaskVector, sites_at

ROOM = 1e12
STEPS = {"steps": 4, "batch_size": 4, "check_every": 2, "patience": 4}
RECIPE = {"recipe": from_zero(**STEPS)}
ADAPTER = STEPS | {"learning_rates": (0.01,)}
QUICK: dict[str, dict[str, Any]] = {
    "learned-heads": STEPS,
    "multi-head": STEPS,
    "learned": RECIPE,
    "loreft": RECIPE,
    "lobireft": RECIPE,
    "adaptive": STEPS,
    **dict.fromkeys(("prompt-tuning", "prefix-tuning", "lora", "ia3", "bitfit"), ADAPTER),
}
SHARED = QUICK.keys() - {"learned-heads", "multi-head", "adaptive"}
"""Methods whose candidates share what finding them took."""
REPORTS_LESS = {"function-vector-attribution", "linear", "adaptive"}
"""Methods whose candidates' own cost leaves out what is not theirs alone: the exact effects that
attributed ones are compared with, divergences and their states, embeddings of queries."""


@pytest.fixture
def context(tiny_model: Callable[..., LanguageModel]) -> RunContext:
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
    return RunContext(model=tiny_model("llama-biased"), task=task, shots=2)


def config_of(context: RunContext, name: str, folder: Path) -> Any:
    about = QUICK.get(name, {})
    if name == "library":
        for layer, task in enumerate((context.task.name, "capital"), start=1):
            values = torch.ones(1, context.model.d_model)
            origin = replace(context.origin("vanilla"), task=task)
            vector = TaskVector(values=values, sites=sites_at([layer], [-1]), origin=origin)
            vector.save(folder / task)
        about = {"folder": str(folder)}
    return METHODS[name].config(**about)


@pytest.mark.parametrize("name", METHODS)
def test_finding_takes_about_the_tokens_that_are_counted(
    context: RunContext, tmp_path: Path, name: str
) -> None:
    config = config_of(context, name, tmp_path)
    plan = plan_of(context, config)
    costs = costs_of(context.model, plan.found, DEVICE, budget=ROOM)
    found = METHODS[name].find(context, config)
    assert len(found) == len(plan.joins) * len(plan.strengths)
    assert {one.shots for one in found} == {plan.shots}
    ran = [one.cost.forward_tokens for one in found]
    expected = sum(ran) if name in SHARED else ran[0]
    counted = total(costs).forward_tokens
    if name in REPORTS_LESS:
        assert expected < counted < 2 * expected
    elif name != "library":  # the shelf's other task is longer, and counted as the task itself
        assert counted == pytest.approx(expected, rel=0.15)
    assert all(cost.name.startswith(name) for cost in costs)


@pytest.mark.parametrize("name", METHODS)
def test_scoring_takes_about_the_tokens_that_are_counted(
    context: RunContext, tmp_path: Path, name: str
) -> None:
    from taskvectors.methods.shared.choosing import score_candidates

    config = config_of(context, name, tmp_path)
    plan = plan_of(context, config)
    costs = costs_of(context.model, plan.chosen(context), DEVICE, budget=ROOM)
    scores = score_candidates(context, "validation", METHODS[name].find(context, config))
    ran = scores[0].forward_tokens
    if plan.is_whole:
        ran = sum(one.forward_tokens for one in scores)
    assert total(costs).forward_tokens == pytest.approx(ran, rel=0.1)
    tested = costs_of(context.model, plan.tested(context), DEVICE, budget=ROOM)
    assert 0 < total(tested).forward_tokens <= total(costs).forward_tokens * 1.01


def test_another_embedder_and_an_unknown_method_are_errors(context: RunContext) -> None:
    with pytest.raises(TaskVectorsError, match="no estimate of adaptive with the embedder random"):
        plan_of(context, Adaptive(embedder="random"))

    class Strange:
        kind = "strange"

    with pytest.raises(TaskVectorsError, match="no method 'strange'; there are adaptive"):
        plan_of(context, Strange())


# --- analyses and controls


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_takes_time_unless_nothing_is_run(context: RunContext, name: str) -> None:
    works = ANALYSES[name].cost(Sizes(context=context, layers=(1, 2)))
    cost = total(costs_of(context.model, works, DEVICE, budget=ROOM))
    assert (cost.seconds > 0) is (name not in {"geometry", "lens"})
    assert all(work.name.startswith(name) for work in works)


def test_every_control_has_its_work(context: RunContext) -> None:
    seconds = {}
    for name in CONTROLS:
        works = CONTROLS[name].works(context, Learned(**RECIPE))
        seconds[name] = total(costs_of(context.model, works, DEVICE, budget=ROOM)).seconds
    assert seconds.pop("majority") == 0
    assert min(seconds.values()) == seconds["random"] > 0
    with pytest.raises(TaskVectorsError, match=r"no control 'strange'; there are .*random"):
        CONTROLS.find("strange")
