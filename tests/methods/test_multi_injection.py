"""`multi-injection` against a whole pass in which each separator is overwritten by hand.

Run with `pytest tests/methods/test_multi_injection.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import DataError, PositionError
from taskvectors.methods import RunContext
from taskvectors.methods.multi_injection import MultiInjection, multi_injection
from taskvectors.methods.shared.choosing import score_candidates
from taskvectors.models import patch


def separators_by_hand(context: Any, prompt: Any) -> list[int]:
    """The last token of each beginning of the prompt that ends where an answer begins."""
    tokenizer, places, text = context.model.tokenizer, [], ""
    for pair in prompt.demonstrations:
        text += f"{pair.input} ->"
        places.append(len(tokenizer(text)["input_ids"]) - 1)
        text += f" {pair.output}\n"
    return [*places, len(prompt.token_ids) - 1]


def test_each_separator_gets_the_state_of_another_prompt(
    tiny_model: Any, bench_of: Any, states_of: Any, mixed: Any, tiny_kind: str
) -> None:
    context = bench_of(tiny_model(tiny_kind), mixed, sizes=(8, 3, 2))
    candidates = multi_injection(context, MultiInjection(shots=3))
    assert [one.vector.layers for one in candidates] == [(0,), (1,), (2,), (3,)]
    scores = score_candidates(context, "validation", candidates)
    sources = [
        states_of(context.model, prompt)[:, -1] for prompt in context.prompts("train", 2)[:4]
    ]
    for layer in (0, 2):
        for index, prompt in enumerate(context.prompts("validation", 3)):

            def overwrite(state: torch.Tensor, prompt: Any = prompt, layer: int = layer) -> Any:
                state = state.clone()
                for place, source in zip(separators_by_hand(context, prompt), sources, strict=True):
                    state[0, place] = source[layer + 1]
                return state

            tokens = prompt.token_ids + prompt.answer_ids[:-1]
            with torch.no_grad(), patch(context.model, layer, "resid_post", overwrite):
                logits = context.model.hf(input_ids=torch.tensor([tokens])).logits[0]
            own = logits[len(prompt.token_ids) - 1 :].log_softmax(dim=1)
            wanted = own[torch.arange(len(prompt.answer_ids)), prompt.answer_ids].mean()
            found = float(scores[layer].log_probability[0, index])
            assert found == pytest.approx(float(wanted), abs=2e-4)


def test_the_vector_is_saved_and_works_where_it_is_loaded(
    tiny_model: Any, bench_of: Any, tmp_path: Any
) -> None:
    from taskvectors.vectors import TaskVector, inject

    context = bench_of(tiny_model("llama"))
    one = multi_injection(context, MultiInjection(shots=2, layers=(1,)))[0]
    one.vector.save(tmp_path / "v")
    again = TaskVector.load(tmp_path / "v")
    assert again.positions == ("separator_1", "separator_2", "last")
    (prompt, *_) = context.prompts("test", 2)
    tokens = torch.tensor([prompt.token_ids])
    with torch.no_grad(), inject(context.model, again, prompts=[prompt]):
        injected = context.model.hf(input_ids=tokens).logits[0, -1].log_softmax(dim=0)
    scored = score_candidates(context, "test", [one])[0]
    if len(prompt.answer_ids) == 1:
        first = float(injected[prompt.answer_ids[0]])
        assert first == pytest.approx(float(scored.log_probability[0, 0]), abs=1e-4)


def test_layers_are_together_or_each_by_itself(tiny_model: Any, bench_of: Any) -> None:
    context = bench_of(tiny_model("llama"))
    (one,) = multi_injection(context, MultiInjection(layers=(0, 2), shots=2))
    assert one.vector.layers == (0, 2)
    assert one.vector.values.shape[0] == 6
    apart = multi_injection(context, MultiInjection(layers=(0, 2), each_layer=True, shots=2))
    assert [two.vector.layers for two in apart] == [(0,), (2,)]
    torch.testing.assert_close(one.vector.values[3:], apart[1].vector.values)


def test_more_vectors_than_training_pairs_are_an_error(tiny_model: Any, bench_of: Any) -> None:
    with pytest.raises(DataError, match="there are 4; use fewer shots"):
        multi_injection(bench_of(tiny_model("llama"), sizes=(4, 2, 2)), MultiInjection(shots=4))


def test_a_chat_has_no_separators(tiny_model: Any, bench_of: Any, task_of: Any) -> None:
    import copy

    model = tiny_model("llama")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    from dataclasses import replace

    context = RunContext(
        model=replace(model, tokenizer=tokenizer), task=task_of(), shots=2, chat=True
    )
    candidates = multi_injection(context, MultiInjection(shots=2, layers=(1,)))
    with pytest.raises(PositionError, match="separator_1"):
        score_candidates(context, "validation", candidates)
