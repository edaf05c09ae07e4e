"""Prompts out of a task: which demonstrations are shown, and whether the result fits."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from taskvectors.errors import DataError, PromptTooLongError, TaskVectorsError
from taskvectors.prompts.chat import chat_texts
from taskvectors.prompts.prompt import Prompt
from taskvectors.prompts.templates import Template, load_template
from taskvectors.prompts.tokens import Text, Tokenizer, check_text, tokenize
from taskvectors.tasks import Example, as_examples


def prompt_of_text(tokenizer: Tokenizer, text: str) -> Prompt:
    """A plain text as a prompt whose query is the whole text; its answer is not known.

    Args:
        tokenizer: The model's tokenizer.
        text: The text; it is tokenized as it is, special tokens included.

    Raises:
        TaskVectorsError: The text is empty, or not whole.
    """
    check_text(text)
    ids = tuple(tokenizer(text)["input_ids"]) if text else ()
    if not ids:
        raise TaskVectorsError("the prompt is empty; give some text to go on with")
    return Prompt(
        token_ids=ids,
        answer_ids=ids[-1:],  # stands in: nothing is scored
        spans={"query": (0, len(ids))},
        query=Example(input=text, output="?"),
        demonstrations=(),
        text=text,
    )


def query_text(template: Template | str, query: str) -> str:
    r"""What is asked, in a template, up to the end of the answer cue.

    Args:
        template: A template, or what `load_template` takes.
        query: The input.

    Example:
        >>> query_text("qa", "France")
        'Q: France\nA:'
    """
    if isinstance(template, str):
        template = load_template(template)
    return _text(template, Example(input=query, output="?"), ()).prompt


def build_prompts(  # noqa: PLR0913  (all that a prompt depends on, and nothing else)
    tokenizer: Tokenizer,
    template: Template | str,
    queries: Any,
    *,
    demonstrations: Any = (),
    shots: int = 0,
    seed: int = 0,
    max_tokens: int | None = None,
    chat: bool = False,
    shared_demonstrations: bool = False,
    ends: tuple[int, ...] = (),
) -> tuple[Prompt, ...]:
    """Prompts of all queries, each a function of its own query and not of the others.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        template: A template, or what `load_template` takes. A chat uses its prefix alone.
        queries: The pairs to ask: of `Example`, of (input, output), or a DataFrame.
        demonstrations: The pool that demonstrations are drawn from, in the same forms.
        shots: Number of demonstrations in each prompt.
        seed: Seed of the draws.
        max_tokens: Most tokens that a prompt and its answer may have together.
        chat: Write a conversation with the tokenizer's chat template.
        shared_demonstrations: Show all queries the same demonstrations in the same order.
        ends: Tokens of which one has to follow a right answer; see `answer_ends`.

    Returns:
        One prompt per query, in order.

    Raises:
        DataError: The pool has too few pairs.
        PromptTooLongError: A prompt with its answer has more than `max_tokens`.
        TokenizationError: The tokenizer is slow, has no usable chat template, or does not let
            prompt and answer be told apart.
    """
    if isinstance(template, str):
        template = load_template(template)
    queries, demonstrations = as_examples(queries), as_examples(demonstrations)
    if shared_demonstrations:
        shown = [_draw_for_all(demonstrations, queries, shots, seed)] * len(queries)
    else:
        shown = [draw_demonstrations(demonstrations, query, shots, seed) for query in queries]
    if chat:
        texts = chat_texts(tokenizer, template.prefix, queries, shown)
    else:
        texts = [_text(template, *asked) for asked in zip(queries, shown, strict=True)]
    prompts = tokenize(tokenizer, texts, add_special_tokens=not chat)
    if ends:
        prompts = tuple(replace(prompt, end_ids=ends) for prompt in prompts)
    longest = max(prompts, key=_length, default=None)
    if max_tokens is None or longest is None or _length(longest) <= max_tokens:
        return prompts
    about: dict[str, Any] = {"demonstrations": demonstrations, "seed": seed}
    again = partial(
        build_prompts,
        tokenizer,
        template,
        queries,
        chat=chat,
        shared_demonstrations=shared_demonstrations,
        **about,
    )
    fitting = _largest(lambda fewer: _fits(again(shots=fewer), max_tokens), at_most=shots)
    raise PromptTooLongError(
        f"{longest} has {_length(longest)} tokens with its answer, where {max_tokens} fit; "
        + ("not even 0 shots fit: " if fitting is None else f"use at most {fitting} shots, ")
        + "shorten the inputs or take a model with a longer context"
    )


def most_shots(  # noqa: PLR0913  (those of build_prompts)
    tokenizer: Tokenizer,
    template: Template | str,
    queries: Sequence[Example],
    demonstrations: Sequence[Example],
    max_tokens: int,
    *,
    seed: int = 0,
    chat: bool = False,
) -> int:
    """The largest number of demonstrations, alike for all, with which every query's prompt fits.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        template: A template, or what `load_template` takes.
        queries: The pairs to ask.
        demonstrations: The pool that demonstrations are drawn from.
        max_tokens: Most tokens that a prompt and its answer may have together.
        seed: Seed of the draws: other demonstrations have other lengths.
        chat: Write a conversation with the tokenizer's chat template.

    Returns:
        The number, at most the pool's pairs that give away no query.

    Raises:
        PromptTooLongError: Not even the prompts without demonstrations fit.
        TokenizationError: As in `build_prompts`.
    """
    build = partial(
        build_prompts,
        tokenizer,
        template,
        queries,
        seed=seed,
        chat=chat,
        shared_demonstrations=True,
    )
    pool = len(safe_pairs(demonstrations, queries))
    build(max_tokens=max_tokens)
    fitting = _largest(
        lambda shots: _fits(build(demonstrations=demonstrations, shots=shots), max_tokens),
        at_most=pool,
    )
    return fitting or 0


def draw_demonstrations(
    pool: Sequence[Example], query: Example, shots: int, seed: int
) -> tuple[Example, ...]:
    """Demonstrations of one query, by seed and query alone.

    Never drawn are pairs with the query's input, and the query's reverse, which would show its
    answer. With fewer shots one gets the first of the same demonstrations.

    Args:
        pool: The pairs to draw from.
        query: The pair that will be asked.
        shots: How many.
        seed: Seed of the draw.

    Returns:
        Different pairs of the pool.

    Raises:
        DataError: The pool has too few pairs, or the number is negative.

    Example:
        >>> pool = [Example(input=letter, output=letter.upper()) for letter in "abc"]
        >>> [pair.output for pair in draw_demonstrations(pool, pool[0], 1, seed=0)]
        ['C']
    """
    if shots < 0:
        raise DataError(f"{shots} demonstrations cannot be shown; give 0 or more")
    drawn: list[Example] = []
    order = _shuffled(len(pool), random.Random(repr((seed, query.input, query.output))))
    while len(drawn) < shots:
        index = next(order, None)
        if index is None:
            raise DataError(
                f"{shots} demonstrations of {query.input!r} were asked for, and the pool has "
                f"{len(drawn)} besides the query itself; give fewer shots or more training pairs"
            )
        if not _gives_away(pool[index], query):
            drawn.append(pool[index])
    return tuple(drawn)


def _draw_for_all(
    pool: Sequence[Example], queries: Sequence[Example], shots: int, seed: int
) -> tuple[Example, ...]:
    """Demonstrations that give away no query, by seed alone."""
    safe = safe_pairs(pool, queries)
    if not 0 <= shots <= len(safe):
        raise DataError(
            f"{shots} demonstrations were asked for, and the pool has {len(safe)} that give away "
            "no query; give a number from 0 to that"
        )
    order = _shuffled(len(safe), random.Random(seed))
    return tuple(safe[next(order)] for _ in range(shots))


def safe_pairs(pool: Sequence[Example], queries: Sequence[Example]) -> list[Example]:
    """Pairs of a pool that give away none of some queries: not their inputs, nor their reverses."""
    return [pair for pair in pool if not any(_gives_away(pair, query) for query in queries)]


def _gives_away(pair: Example, query: Example) -> bool:
    reverse = pair.input in query.answers and query.input in pair.answers
    return reverse or pair.input == query.input


def _shuffled(n: int, rng: random.Random) -> Iterator[int]:
    """0 ... n-1 in random order, shuffled only as far as it is read: pools can be large."""
    moved: dict[int, int] = {}
    for index in range(n):
        other = rng.randrange(index, n)
        yield moved.get(other, other)
        moved[other] = moved.get(index, index)


def _text(template: Template, query: Example, pairs: tuple[Example, ...]) -> Text:
    before, between, _ = template.parts
    shown = template.separator.join(map(template.fill, pairs))
    begin = template.prefix + shown + (template.separator if pairs else "") + before
    cue = between.rstrip(" ")  # the blank is the answer's: alone it would be a token of its own
    stop = len(begin) + len(query.input)
    answers_at, at = [], len(template.prefix)
    for pair in pairs:
        answer = at + len(before) + len(pair.input) + len(cue)
        answers_at.append((answer, at + len(before + pair.input + between + pair.output)))
        at += len(template.fill(pair)) + len(template.separator)
    return Text(
        prompt=begin + query.input + cue,
        answer=between[len(cue) :] + query.output,
        other_answers=tuple(between[len(cue) :] + answer for answer in query.also),
        query_at=(len(begin), stop),
        cue_at=stop,
        demonstrations_at=(len(template.prefix), len(template.prefix) + len(shown)),
        answers_at=tuple(answers_at),
        query=query,
        demonstrations=pairs,
    )


def _length(prompt: Prompt) -> int:
    return len(prompt.token_ids) + len(prompt.answer_ids)


def _fits(prompts: Sequence[Prompt], max_tokens: int) -> bool:
    return all(_length(prompt) <= max_tokens for prompt in prompts)


def _largest(fits: Callable[[int], bool], at_most: int) -> int | None:
    """The largest number up to a limit that fits, where all smaller ones then fit too."""
    if not fits(0):
        return None
    low, step = 0, 1
    while low + step <= at_most and fits(low + step):  # doubling: a large pool is never all shown
        low, step = low + step, step * 2
    high = min(low + step, at_most + 1)  # does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
