"""What an answer costs: every way is on while it is timed, and off afterwards.

Run with `pytest tests/experiments/test_inference.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.experiments.catalog.shared import inference
from taskvectors.methods import RunContext
from taskvectors.methods.bitfit import BitFit
from taskvectors.methods.lora import Lora
from taskvectors.methods.prompt_tuning import PromptTuning
from taskvectors.tasks import load_task

ADAPTERS = (PromptTuning(), Lora(), BitFit())


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    task = load_task("sentiment", n_train=12, n_validation=4, n_test=3)
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def test_every_way_is_on_while_it_is_timed(context: RunContext) -> None:
    hf = context.model.hf
    found = list(inference.ways(context, 1, ADAPTERS))
    methods = [way.row.method for way in found]
    # this model has no biases, so bitfit has no meaning for it
    assert methods == ["zero-shot", "icl", "learned", *["prompt-tuning"] * 2, *["lora"] * 2]
    ids = torch.tensor([found[0].prompts[0].token_ids])

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits[0, -1].clone()

    before = logits(hf)
    for way in found:
        with way.ready() as ready:
            during = logits(ready)
            if way.row.method in ("learned", "prompt-tuning"):
                assert not torch.allclose(during, before)
            elif way.row.method == "lora":  # it starts as nothing, in modules of its own
                assert any("lora" in name for name, _ in ready.named_parameters())
        torch.testing.assert_close(logits(hf), before)
    assert found[1].row.shots == 2
    assert len(found[1].prompts[0].token_ids) > len(found[0].prompts[0].token_ids)
    assert len({way.row.configuration for way in found if way.row.method == "lora"}) == 2


def test_each_way_has_a_time_and_a_memory_and_is_estimated(context: RunContext) -> None:
    rows = list(inference.inference_costs(context, 1, ADAPTERS[1:2]))
    assert [row.measure for row in rows] == ["inference_seconds", "inference_peak_bytes"] * 5
    assert all(row.n == 3 for row in rows)
    assert all(row.value is not None and row.value > 0 for row in rows[::2])
    works = inference.inference_works(context, 1, ADAPTERS[1:2])
    assert [work.n_prompts for work in works] == [3] * 5
    assert works[1].tokens > works[0].tokens
