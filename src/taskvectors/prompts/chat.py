"""Prompts in the form of a conversation, for instruction-tuned models.

Demonstrations are earlier turns, the query is the user's last one, and the cue is the generation
prompt (where a template has none, what closes the user's turn). A chat template is a program, so
where its texts end up is found by rendering it a second time with marks in their place.
"""

from collections.abc import Sequence
from typing import Any

from taskvectors.errors import TokenizationError
from taskvectors.prompts.tokens import Text, Tokenizer
from taskvectors.tasks import Example

# private-use characters: no template looks at them, trims them or contains them
_FIRST, _LAST, _QUERY = "\ue0f1", "\ue0f2", "\ue0f3"

Messages = list[dict[str, str]]


def chat_texts(
    tokenizer: Tokenizer,
    prefix: str,
    queries: Sequence[Example],
    shown: Sequence[tuple[Example, ...]],
) -> list[Text]:
    """Conversations that end where the model is to answer.

    Args:
        tokenizer: A tokenizer with a chat template.
        prefix: An instruction that stands before the first input.
        queries: The pairs to ask.
        shown: The demonstrations of each query.

    Returns:
        One text per query.

    Raises:
        TokenizationError: There is no chat template, or it changes what is put into it.
    """
    if not tokenizer.chat_template:
        raise TokenizationError(
            f"the tokenizer ({type(tokenizer).__name__}) has no chat template; use an "
            "instruction-tuned model, or prompts without a chat"
        )
    around_answer = _around_answer(tokenizer)
    return [
        _conversation(tokenizer, prefix, query, pairs, around_answer)
        for query, pairs in zip(queries, shown, strict=True)
    ]


def _around_answer(tokenizer: Tokenizer) -> tuple[str, str]:
    """The generation prompt, and the blank that the template puts between it and an answer."""
    asked = [{"role": "user", "content": _QUERY}]
    closed, opened = _render(tokenizer, asked, False), _render(tokenizer, asked, True)
    if not opened.startswith(closed):
        raise TokenizationError(
            "the chat template puts its generation prompt elsewhere than at the end of the "
            "conversation; give the tokenizer another template"
        )
    answered = _render(tokenizer, [*asked, {"role": "assistant", "content": _LAST}], False)
    blank = answered.removeprefix(opened).partition(_LAST)[0]
    is_blank = answered.startswith(opened) and not blank.strip()
    return opened.removeprefix(closed), blank if is_blank else ""


def _conversation(
    tokenizer: Tokenizer,
    prefix: str,
    query: Example,
    pairs: tuple[Example, ...],
    around_answer: tuple[str, str],
) -> Text:
    cue, blank = around_answer
    inputs = [*(pair.input for pair in pairs), query.input]
    outputs = [pair.output for pair in pairs]
    real = _render(tokenizer, _messages(prefix, inputs, outputs), True)
    marked_inputs = [_FIRST, *inputs[1:-1], _QUERY] if pairs else [_QUERY]
    marked_outputs = [*outputs[:-1], _LAST] if pairs else []
    marked = _render(tokenizer, _messages(prefix, marked_inputs, marked_outputs), True)
    values = {_FIRST: inputs[0], _LAST: outputs[-1]} if pairs else {}
    text, rest = "", marked
    at: dict[str, tuple[int, int]] = {}
    for mark, value in {**values, _QUERY: query.input}.items():
        before, _, rest = rest.partition(mark)
        text += before + value
        at[mark] = (len(text) - len(value), len(text))
    if text + rest != real or not real.endswith(cue):
        raise TokenizationError(
            f"the chat template changes what is put into it (the input {query.input!r}), so its "
            "place cannot be found; remove blanks and markup from the pairs"
        )
    return Text(
        prompt=real,
        answer=blank + query.output,
        other_answers=tuple(blank + answer for answer in query.also),
        query_at=at[_QUERY],
        cue_at=len(real) - len(cue) if cue else at[_QUERY][1],
        demonstrations_at=(at[_FIRST][0], at[_LAST][1]) if pairs else (0, 0),
        query=query,
        demonstrations=pairs,
    )


def _messages(prefix: str, inputs: Sequence[str], outputs: Sequence[str]) -> Messages:
    turns = [{"role": "user", "content": text} for text in inputs]
    turns[0]["content"] = prefix + turns[0]["content"]
    messages = turns[:1]
    for output, turn in zip(outputs, turns[1:], strict=True):
        messages += [{"role": "assistant", "content": output}, turn]
    return messages


def _render(tokenizer: Tokenizer, messages: Messages, add_generation_prompt: bool) -> str:
    rendered: Any = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(rendered)
