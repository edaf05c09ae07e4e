"""Which tokens end an answer, and which answers begin another.

Run with `pytest tests/prompts/test_ends.py`.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from taskvectors.prompts import answer_ends, beginnings, build_prompts, ends_of_text
from taskvectors.tasks import Example


@pytest.mark.parametrize(
    ("template", "first"), [("qa", "\n"), ("arrow", "\n"), ("{input} is {output}.", ".")]
)
def test_answers_end_as_the_template_goes_on_or_with_the_text(
    gpt2_tokenizer: Any, template: str, first: str
) -> None:
    ends = answer_ends(gpt2_tokenizer, template, (2,), chat=False)
    for token in range(len(gpt2_tokenizer)):
        text = gpt2_tokenizer.decode([token])
        assert (token in ends) == (token == 2 or text.startswith(first)), text
    assert len(ends) > 1
    assert answer_ends(gpt2_tokenizer, template, (2,), chat=True) == (2,)


def test_an_answer_in_every_style_of_tokenizer_can_end(tokenizer: Any) -> None:
    ends = answer_ends(tokenizer, "qa", (), chat=False)
    assert ends
    assert all(tokenizer.decode([token]).startswith("\n") for token in ends)


@pytest.mark.parametrize(
    ("stops", "own", "ends"), [([4, 9], 2, {2, 4, 9}), (4, None, {4}), (None, None, set())]
)
def test_generation_may_stop_at_several_tokens(stops: Any, own: Any, ends: set[int]) -> None:
    hf = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=stops))
    assert set(ends_of_text(hf, SimpleNamespace(eos_token_id=own))) == ends


def test_answers_that_begin_another_are_found_with_one_that_they_begin(
    gpt2_tokenizer: Any,
) -> None:
    pairs = [("9", "nine"), ("910", "nine hundred ten"), ("90", "nine"), ("1", "one")]
    prompts = build_prompts(gpt2_tokenizer, "qa", [Example(input=a, output=b) for a, b in pairs])
    assert beginnings(prompts) == {"nine": "nine hundred ten"}
    assert beginnings([prompts[0], prompts[3]]) == {}
    also = replace(prompts[3], other_answer_ids=(prompts[0].answer_ids,))
    assert set(beginnings([also, prompts[1]])) == {"one"}


def test_ends_go_with_every_prompt(gpt2_tokenizer: Any) -> None:
    (prompt,) = build_prompts(gpt2_tokenizer, "qa", [Example(input="a", output="b")], ends=(3, 5))
    assert prompt.end_ids == (3, 5)
