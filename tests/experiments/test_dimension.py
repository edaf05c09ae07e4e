"""How many numbers a task is: what is measured of each vector.

Run with `pytest tests/experiments/test_dimension.py`.
"""

from typing import Any

import pytest

from taskvectors.experiments.catalog import dimension
from taskvectors.experiments.experiment import Preset
from taskvectors.methods import RunContext
from taskvectors.tasks import load_task


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    task = load_task("sentiment", n_train=12, n_validation=4, n_test=5)
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def test_every_size_and_rounding_is_scored_beside_the_whole_vector(context: RunContext) -> None:
    preset = Preset(tasks=("sentiment",), steps=2)
    seen = dict(dimension._by_answers(context))
    assert seen["true"] is context
    shuffled = seen["shuffled"]
    assert [one.input for one in shuffled.task.train] == [one.input for one in context.task.train]
    assert shuffled.task.train != context.task.train
    found = dimension._measured(context, shuffled, (1, 2), "shuffled", preset)
    by = {(row.measure, row.layers[0], row.about["k"], row.about["bits"]): row for row in found}
    assert len(by) == len(found) == 3 * 2 * 6 * 9
    for layer in (1, 2):
        whole = by["difference", layer, 32, None]
        assert whole.value == whole.low == whole.high == 0
        for size in (1, 2, 4, 8, 16, 32):
            # eight bits hardly change anything
            plain, fine = (by["accuracy", layer, size, bits].value for bits in (None, 8))
            assert abs(plain - fine) <= 0.2
            assert by["accuracy", layer, size, None].n == 5
            assert by["train_accuracy", layer, size, None].n == 12
    assert {row.about["answers"] for row in found} == {"shuffled"}
