"""A trained learner through the rest of the library: extracted from, injected into, explained.

The learner adds an offset to symbols; its vector was formed after block 1. One prompt's vector
stands for the task in every query.
"""

from contextlib import ExitStack
from functools import cache

import torch
from torch import Tensor

from taskvectors.explain.key_heads import KeyHeads, key_heads
from taskvectors.explain.shared.labels import lens
from taskvectors.learners import Learner
from taskvectors.models import LanguageModel, capture
from taskvectors.prompts import Prompt
from taskvectors.tasks import Example
from taskvectors.vectors import Site, TaskVector, VectorOrigin, inject

SYMBOLS, Z, LAYER = 11, 11, 1
DUMMY = 10


@cache
def model() -> LanguageModel:
    return Learner.load("offset-tvp-1").language_model()


def extracted(offset: int) -> TaskVector:
    """The state after block 1 at the z of a seventh input, six pairs before it."""
    pairs = [token for x in range(6) for token in (x, Z, (x + offset) % SYMBOLS)]
    kept: list[Tensor] = []
    with torch.no_grad(), capture(model(), LAYER, "resid_post", kept.append):
        model().hf(input_ids=torch.tensor([[*pairs, DUMMY, Z]]))
    return TaskVector(
        values=kept[0][:, -1],
        sites=(Site(layer=LAYER, position=-1),),
        operation="replace",
        origin=VectorOrigin.of_model(model(), method="read", task=f"offset {offset}"),
    )


def injected(offset: int) -> tuple[Tensor, list[Tensor]]:
    """Logits at z of all zero-shot queries, and the states there after each block."""
    queries = torch.tensor([[x, Z] for x in range(SYMBOLS) if x != DUMMY])
    states: list[Tensor] = []
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(inject(model(), extracted(offset)))
        for layer in range(model().n_layers):
            stack.enter_context(capture(model(), layer, "resid_post", states.append))
        logits = model().hf(input_ids=queries).logits[:, -1]
    return logits, [state[:, -1] for state in states]


def answers(offset: int) -> list[int]:
    return [(x + offset) % SYMBOLS for x in range(SYMBOLS) if x != DUMMY]


def queries(offset: int) -> tuple[Prompt, ...]:
    asked = zip([x for x in range(SYMBOLS) if x != DUMMY], answers(offset), strict=True)
    return tuple(
        Prompt(
            token_ids=(x, Z),
            answer_ids=(y,),
            spans={},
            query=Example(input=str(x), output=str(y)),
            demonstrations=(),
            text=f"{x} z",
        )
        for x, y in asked
    )


@cache
def heads_of(offset: int) -> KeyHeads:
    return key_heads(model(), queries(offset), extracted(offset))


def test_one_prompts_vector_answers_every_query_of_its_task() -> None:
    for offset in (1, 4, 7):
        logits, _ = injected(offset)
        assert logits.argmax(dim=-1).tolist() == answers(offset)
        assert logits.argmax(dim=-1).tolist() != answers(offset + 1)


def test_the_lens_reads_the_answer_after_the_last_block_and_not_in_the_vector() -> None:
    _, states = injected(4)
    read = [[top[0][0] for top in lens(model(), state, n=1)] for state in states]
    expected = [str(answer) for answer in answers(4)]
    assert read[-1] == expected
    assert len(set(read[LAYER])) == 1  # the vector has not seen the query
    right = [sum(a == b for a, b in zip(one, expected, strict=True)) for one in read]
    assert right[LAYER] <= 1


def test_without_a_key_head_the_answer_is_lost() -> None:
    found = heads_of(4)
    assert {head.layer for head in found.heads} == {2, 3}
    by_place = {head.place: head for head in found.heads}
    assert all(by_place[place].removed < -0.5 for place in found.key)
    assert abs(by_place[found.ranked[-1]].removed) < 0.1


def test_the_same_head_is_among_the_two_highest_of_every_task() -> None:
    for offset in (1, 4, 7):
        assert (2, 0) in heads_of(offset).ranked[:2]
