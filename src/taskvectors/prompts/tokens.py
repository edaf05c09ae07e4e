"""Texts to token ids, and places in a text to token ranges.

A prompt is tokenized twice: alone, which gives the tokens that generation sees, and together with
its answer, which gives the answer's tokens as they follow that very prompt (byte-level BPE keeps a
leading blank in the token; sentencepiece would put one before any text tokenized on its own).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from taskvectors.errors import TokenizationError
from taskvectors.prompts.prompt import Prompt
from taskvectors.tasks import Example

Offsets = list[tuple[int, int]]


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    is_fast: bool
    chat_template: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Token ids and offsets of a list of texts."""

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """The text of token ids."""

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """The texts of several lists of token ids."""

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        """The text of a conversation."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A prompt before it is tokenized.

    Attributes:
        prompt: The text up to the end of the cue.
        answer: What follows it, leading blank included.
        query_at: Characters of the query's input, half-open.
        cue_at: Character at which the cue begins.
        demonstrations_at: Characters of all demonstrations, half-open; empty without any.
        answers_at: Characters of each demonstration's answer, the blank before it included; none
            where demonstrations are turns of a chat.
        query: The pair that is asked.
        demonstrations: The pairs that are shown.
        other_answers: Further answers that count as right, written as `answer` is.
    """

    prompt: str
    answer: str
    query_at: tuple[int, int]
    cue_at: int
    demonstrations_at: tuple[int, int]
    query: Example
    demonstrations: tuple[Example, ...]
    answers_at: tuple[tuple[int, int], ...] = ()
    other_answers: tuple[str, ...] = ()


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[Text], *, add_special_tokens: bool
) -> tuple[Prompt, ...]:
    """Prompts with the token ranges of their parts.

    Args:
        tokenizer: A fast tokenizer.
        texts: Prompts as text.
        add_special_tokens: Add what the tokenizer adds (BOS); off where the text already has it.

    Returns:
        One prompt per text. Special tokens after the cue (EOS) are dropped.

    Raises:
        TokenizationError: The tokenizer is slow, gives no token for an input, or does not let
            prompt and answer be told apart.
    """
    if not tokenizer.is_fast:
        raise TokenizationError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which cannot say where in the text a "
            "token is; load the fast one of the model (use_fast=True)"
        )
    if not texts:
        return ()
    alone = _encode(tokenizer, [text.prompt for text in texts], add_special_tokens)
    offsets = [_without_end(places) for places in alone["offset_mapping"]]
    prompt_ids = [
        ids[: len(places)] for ids, places in zip(alone["input_ids"], offsets, strict=True)
    ]
    answer_ids = _answers(tokenizer, texts, prompt_ids, add_special_tokens)
    others = [(n, answer) for n, text in enumerate(texts) for answer in text.other_answers]
    other_ids: list[list[tuple[int, ...]]] = [[] for _ in texts]
    if others:
        other_texts = [replace(texts[n], answer=answer) for n, answer in others]
        before = [prompt_ids[n] for n, _ in others]
        found = _answers(tokenizer, other_texts, before, add_special_tokens)
        for (n, _), ids in zip(others, found, strict=True):
            other_ids[n].append(tuple(ids))
    return tuple(
        Prompt(
            token_ids=tuple(ids),
            answer_ids=tuple(answer),
            other_answer_ids=tuple(also),
            spans=_spans(text, places),
            query=text.query,
            demonstrations=text.demonstrations,
            text=text.prompt,
        )
        for text, ids, answer, also, places in zip(
            texts, prompt_ids, answer_ids, other_ids, offsets, strict=True
        )
    )


def check_text(text: str) -> None:
    """Check that a tokenizer can read a text.

    Raises:
        TokenizationError: Half of a character, or a byte that is no text, stands alone in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizationError(
            f"the character at place {error.start} of {text!r} is only half of one, or a byte that "
            "is no text; write it anew, as UTF-8"
        ) from error


def _encode(tokenizer: Tokenizer, texts: list[str], add_special_tokens: bool) -> Any:
    for text in texts:
        check_text(text)
    return tokenizer(
        texts,
        add_special_tokens=add_special_tokens,
        padding=False,
        truncation=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # the length limit is checked by the caller, on all prompts
    )


def _without_end(offsets: Offsets) -> Offsets:
    """Offsets without those of special tokens at the end: they stand for no text, at (0, 0)."""
    stop = len(offsets)
    while stop and tuple(offsets[stop - 1]) == (0, 0):
        stop -= 1
    return offsets[:stop]


def _answers(
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    prompt_ids: Sequence[list[int]],
    add_special_tokens: bool,
) -> list[list[int]]:
    """What follows the prompt's tokens when prompt and answer are tokenized together.

    That fails where the answer changes the prompt's tokens (a token across the border, or new lines
    that are one token at the end of a text and two before a word). Those answers are tokenized
    after a stand-in for the prompt, and must give the same text.
    """
    whole_texts = [text.prompt + text.answer for text in texts]
    encoded = _encode(tokenizer, whole_texts, add_special_tokens)
    answers: list[list[int]] = []
    for n, (ids, places) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ):
        whole = ids[: len(_without_end(places))]
        answer = _rest(whole, prompt_ids[n])
        answers.append(answer or _apart(tokenizer, texts[n], prompt_ids[n], whole))
    return answers


def _apart(
    tokenizer: Tokenizer, text: Text, prompt_ids: list[int], whole_ids: list[int]
) -> list[int]:
    expected = tokenizer.decode(whole_ids)
    # a new line first: sentencepiece puts a blank before a text that stands alone
    for stand_in in ("\n", ""):
        ids = _encode(tokenizer, [stand_in, stand_in + text.answer], False)["input_ids"]
        answer = _rest(ids[1], ids[0])
        if answer and tokenizer.decode([*prompt_ids, *answer]) == expected:
            return answer
    raise TokenizationError(
        f"the answer {text.answer!r} cannot be told apart from the prompt that ends in "
        f"{text.prompt[-20:]!r}: a token covers both; use a template with a blank or a new line "
        "before {output}"
    )


def _rest(ids: list[int], beginning: list[int]) -> list[int]:
    return ids[len(beginning) :] if ids[: len(beginning)] == beginning else []


def _spans(text: Text, offsets: Offsets) -> dict[str, tuple[int, int]]:
    query = _tokens_at(offsets, text.query_at)
    if query is None:
        raise TokenizationError(
            f"the tokenizer gives no token for the input {text.query.input!r}; remove that pair"
        )
    end = len(offsets)
    cue = _tokens_at(offsets, (text.cue_at, len(text.prompt))) or (end, end)
    spans = {"query": query, "cue": (max(cue[0], query[1]), end)}
    shown = _tokens_at(offsets, text.demonstrations_at)
    if shown is not None:
        spans["demonstrations"] = (shown[0], min(shown[1], query[0]))
    for number, at in enumerate(text.answers_at, start=1):
        answer = _tokens_at(offsets, at)
        if answer is not None and answer[0] > 0:
            spans[f"separator_{number}"] = (answer[0] - 1, answer[0])
    return spans


def _tokens_at(offsets: Iterable[tuple[int, int]], at: tuple[int, int]) -> tuple[int, int] | None:
    """First token that covers any of these characters, and the one after the last of them."""
    begin, end = at
    hits = [n for n, (first, stop) in enumerate(offsets) if first < end and stop > begin]
    return (hits[0], hits[-1] + 1) if hits else None
