"""What vectors read as: a vector that is a label's own direction, and a random one.

Run with `pytest tests/explain/test_vector_lens.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.explain import ANALYSES, Case
from taskvectors.explain.lens import read_vectors
from taskvectors.format import percent
from taskvectors.methods import RunContext
from taskvectors.tasks import load_task
from taskvectors.vectors import TaskVector, sites_at


@pytest.fixture(scope="module")
def context(tiny_model: Any) -> RunContext:
    task = load_task("sentiment", n_train=20, n_validation=4, n_test=4)
    return RunContext(model=tiny_model("llama"), task=task, shots=2)


def vector(context: RunContext, values: torch.Tensor, position: int = -1) -> TaskVector:
    return TaskVector(
        values=values.unsqueeze(0),
        sites=sites_at([1], [position]),
        operation="add",
        origin=context.origin("planted"),
    )


def test_a_label_direction_reads_as_the_label_and_lies_in_the_labels(context: RunContext) -> None:
    (token, *_) = sorted(context.label_starts)
    model = context.model
    norm = model.hf.model.norm.weight.detach()
    planted = vector(context, model.hf.lm_head.weight[token].detach() / norm)
    found = read_vectors(context, [planted])
    frame = found.to_frame()
    top = frame[frame["measure"].eq("lens") & frame["around"].eq("vector") & frame["at"].eq(0)]
    assert top["text"].tolist() == [model.tokenizer.decode([token])]
    shares = frame[frame["measure"].eq("label_share")].set_index("around")["value"]
    assert shares["vector"] == pytest.approx(1.0, abs=1e-5)
    assert shares["random"] < 0.9
    ranks = frame[frame["measure"].eq("label_rank")].set_index("around")["value"]
    assert ranks["vector"] > ranks["random"]
    (line, *_) = found.figure().series
    assert line.label == "labels, of the vector"
    assert line.y == (ranks["vector"],)


def test_vectors_of_several_layers_follow_each_other_and_the_sentence_is_theirs(
    context: RunContext,
) -> None:
    def at(layer: int) -> TaskVector:
        values = torch.randn(
            1, context.model.d_model, generator=torch.Generator().manual_seed(layer)
        )
        return TaskVector(
            values=values, sites=sites_at([layer], [-1]), operation="add",
            origin=context.origin("planted"),
        )  # fmt: skip

    high, low = at(1), at(0)
    found: Any = ANALYSES["lens"].run(Case(context=context, vector=high, vectors=(high, low)))
    frame = found.to_frame()
    assert list(dict.fromkeys(frame["layer"])) == [0, 1]
    assert found == read_vectors(context, [low, high], seed=context.seed)
    own = frame[frame["layer"].eq(1) & frame["around"].eq("vector")]
    rank = float(own[own["measure"].eq("label_rank")]["value"].iloc[0])
    said = ANALYSES["lens"].summarise(frame[frame["layer"].eq(1)])
    for token in own[own["measure"].eq("lens")]["text"][:5]:
        assert repr(token) in said
    assert said.startswith("layer 1: ")
    assert f"labels stand above {percent(rank)}" in said
    assert said.endswith("of the vocabulary")


def test_the_random_vector_depends_on_the_seed_alone(context: RunContext) -> None:
    one = vector(
        context, torch.randn(context.model.d_model, generator=torch.Generator().manual_seed(1))
    )
    assert read_vectors(context, [one], seed=3) == read_vectors(context, [one], seed=3)
    assert read_vectors(context, [one], seed=3) != read_vectors(context, [one], seed=4)


def test_a_vector_at_another_position_is_refused(context: RunContext) -> None:
    with pytest.raises(TaskVectorsError, match="last token"):
        read_vectors(context, [vector(context, torch.ones(context.model.d_model), position=-2)])
