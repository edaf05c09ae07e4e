"""Vectors under other templates: contexts that take turns, and the matrix of vectors and prompts.

Run with `pytest tests/experiments/test_templates.py`.
"""

from typing import Any

import pandas as pd
import pytest
import torch

from taskvectors.experiments.catalog import templates
from taskvectors.experiments.catalog.templates import MIXTURE, RANDOM, crossed, in_templates
from taskvectors.methods import RunContext
from taskvectors.tasks import load_task
from taskvectors.vectors import Site, TaskVector


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    task = load_task("sentiment", n_train=12, n_validation=4, n_test=6)
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def test_a_mixture_asks_each_query_in_the_next_template(context: RunContext) -> None:
    found = in_templates(context)
    assert list(found) == ["sentiment", "qa", "arrow", "colon", "hendel", MIXTURE]
    assert found["qa"].prompts("train")[0].text != found["arrow"].prompts("train")[0].text
    mixed = found[MIXTURE].prompts("train", 2)
    assert [prompt.query for prompt in mixed] == list(context.task.train)
    for number, prompt in enumerate(mixed):
        name = list(found)[number % 5]
        assert prompt == found[name].prompts("train", 2)[number]
    # a task's own template is not asked twice
    assert len(in_templates(found["qa"])) == 5


def test_the_matrix_says_what_every_vector_does_and_reads_as(context: RunContext) -> None:
    model, contexts = context.model, in_templates(context)
    token = min(contexts["arrow"].label_starts)
    row = model.hf.lm_head.weight[token].detach() / model.hf.model.norm.weight.detach()

    def vector(values: torch.Tensor) -> TaskVector:
        return TaskVector(values=values.unsqueeze(0), sites=(Site(3, -1),))

    generator = torch.Generator().manual_seed(0)
    vectors = {
        ("arrow", 3): vector(100 * row),  # says one label, whatever is asked
        (RANDOM, 3): vector(1e-6 * torch.randn(32, generator=generator)),
    }
    rows = list(crossed("arrow", contexts["arrow"], vectors))
    frame = pd.DataFrame([one.as_row() for one in rows]).set_index(["trained_in", "measure"])
    scores = contexts["arrow"].score("test", 0, [one.edits() for one in vectors.values()])
    share = float(scores.is_correct[0].double().mean())
    assert frame.loc[("arrow", "accuracy"), "value"] == pytest.approx(share)
    plain = frame[frame["method"].eq("zero-shot")]["value"].iloc[0]
    assert frame.loc[("arrow", "gain"), "value"] == pytest.approx(share - plain)
    assert frame.loc[(RANDOM, "gain"), "value"] == 0
    assert frame.loc[(RANDOM, "steerable"), "value"] == 0
    assert frame.loc[("arrow", "steerable"), "value"] == float(
        frame.loc[("arrow", "gain"), "low"] > 0
    )
    for name in ("arrow", RANDOM):
        is_above = (
            frame.loc[(name, "label_rank"), "value"] > frame.loc[(name, "matched_rank"), "high"]
        )
        assert frame.loc[(name, "readable"), "value"] == float(is_above)
    assert frame.loc[("arrow", "label_rank"), "value"] > frame.loc[(RANDOM, "label_rank"), "value"]


def test_the_figures_are_the_means_over_seeds() -> None:
    def rows(seed: int, add: float) -> list[dict[str, Any]]:
        values = {("qa", "qa"): 0.6, ("qa", "arrow"): 0.2, ("arrow", "qa"): 0.1}
        return [
            {
                "model": "m", "task": "capital", "layers": "[4]", "seed": seed,
                "value": value + add, "measure": measure, "trained_in": trained, "asked_in": asked,
            }
            for (trained, asked), value in (values | {("arrow", "arrow"): 0.3}).items()
            for measure in ("accuracy", "label_rank")
        ]  # fmt: skip

    found = templates._drawn(pd.DataFrame(rows(0, 0.0) + rows(1, 0.2)))
    assert [figure.value_label for figure in found] == [
        "Accuracy (test)", "Share of the vocabulary below",
    ]  # fmt: skip
    assert found[0].rows == found[0].columns == ("qa", "arrow")
    assert found[0].values[0] == pytest.approx((0.7, 0.3))
    assert found[0].values[1] == pytest.approx((0.2, 0.4))
