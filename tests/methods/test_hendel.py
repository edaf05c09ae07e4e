"""`hendel` against a loop over prompts, and against replacing by hand.

Run with `pytest tests/methods/test_hendel.py`.
"""

from typing import Any

import torch
from full_pass import full_logits

from taskvectors.methods.hendel import Hendel, hendel
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.trunk import Edit


def test_the_state_of_a_query_is_replaced_by_the_mean_state_behind_demonstrations(
    tiny_model: Any, bench_of: Any, mixed: Any, states_of: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(6, 3, 2))
    prompts = context.prompts("train", context.shots)[:4]
    expected = torch.stack([states_of(context.model, prompt)[:, -1] for prompt in prompts]).mean(0)
    found = hendel(context, Hendel(n_prompts=4))
    assert [one.vector.layers for one in found] == [(0,), (1,), (2,), (3,)]
    scores = score_candidates(context, "validation", found)
    for layer, (one, score) in enumerate(zip(found, scores, strict=True)):
        assert one.vector.operation == "replace"
        torch.testing.assert_close(one.vector.values[0], expected[layer + 1], atol=1e-4, rtol=1e-4)
        edit = Edit(layer=layer, operation="replace", value=expected[layer + 1])
        for index, prompt in enumerate(context.prompts("validation")):
            with torch.no_grad():
                logits = full_logits(context.model, prompt, [edit]).log_softmax(dim=-1)
            tokens = torch.tensor(prompt.answer_ids)
            by_hand = logits[torch.arange(len(tokens)), tokens].mean()
            torch.testing.assert_close(
                score.log_probability[0, index], by_hand, atol=1e-3, rtol=1e-4
            )


def test_no_query_that_is_asked_is_among_the_dummy_queries(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    dummies = {prompt.query for prompt in context.prompts("train", context.shots)}
    asked = {prompt.query for split in ("validation", "test") for prompt in context.prompts(split)}
    assert not dummies & asked
