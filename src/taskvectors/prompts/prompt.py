"""The prompt as a value, and the names of places in it.

Positions count the tokens of the prompt from 0, BOS included; negative ones count from its end.
Padding is no part of a prompt, so they mean the same in every batch.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from taskvectors.errors import PositionError
from taskvectors.tasks import Example

PAST_THE_PROMPT = ("answer", "generated")
POSITION_NAMES = (
    *("last", "query_first", "query_last", "all", "query", "cue", "demonstrations", "separator_1"),
    *PAST_THE_PROMPT,
)
"""Names of positions; `separator_1` stands for those with other numbers."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One query as a model reads it, and the answer it should give.

    Attributes:
        token_ids: The prompt, from BOS (where the tokenizer adds one) to the end of the answer cue.
        answer_ids: The answer as the model would emit it, leading blank included.
        other_answer_ids: Further answers that count as right.
        spans: Half-open token ranges. `query`: the query's input; a token that it shares with its
            surroundings belongs to it. `cue`: from there to the end (in a chat: the generation
            prompt); empty where a template has nothing there. `demonstrations`: all of them with
            what stands between them; absent where there are none. `separator_1`, ...: the token
            that predicts the first token of that demonstration's answer; absent in a chat.
        query: The pair that is asked.
        demonstrations: The pairs that are shown, in order.
        text: The prompt as text.
        end_ids: Tokens of which one has to follow an answer that counts as right; none where the
            model may go on.
    """

    token_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    spans: Mapping[str, tuple[int, int]] = field(hash=False)
    query: Example
    demonstrations: tuple[Example, ...]
    text: str
    other_answer_ids: tuple[tuple[int, ...], ...] = ()
    end_ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        asked = self.query.input if len(self.query.input) <= 40 else f"{self.query.input[:37]}..."
        return f"the {len(self.demonstrations)}-shot prompt of {asked!r}"


def n_tokens(prompts: Sequence[Prompt]) -> int:
    """Tokens that a plain run of some prompts with their answers takes."""
    return sum(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)


def with_first_tokens(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The same prompts, their answers cut to the first token."""
    return tuple(replace(prompt, answer_ids=prompt.answer_ids[:1]) for prompt in prompts)


def resolve_positions(prompt: Prompt, positions: Sequence[int | str]) -> tuple[int, ...]:
    """Token indices of positions given by number or by name.

    Args:
        prompt: The prompt.
        positions: Numbers (negative from the prompt's end) and names: `last`, `query_first`,
            `query_last`, `all`, or a span of the prompt (`query`, `cue`, `demonstrations`,
            `separator_1`, ...).

    Returns:
        0-based indices in the order given; a name that covers several tokens gives all of them.

    Raises:
        PositionError: The prompt is too short for a number, or does not have what a name means.
    """
    return tuple(index for position in positions for index in _indices(prompt, position))


def is_position_name(name: str) -> bool:
    """Whether a prompt can have a position of this name."""
    return re.sub(r"^separator_[1-9][0-9]{0,5}$", "separator_1", name) in POSITION_NAMES


def separators(shots: int) -> tuple[str, ...]:
    """Names of all tokens of a prompt that predict an answer: each demonstration's, then its own.

    Example:
        >>> separators(2)
        ('separator_1', 'separator_2', 'last')
    """
    return (*(f"separator_{number}" for number in range(1, shots + 1)), "last")


def shared_first_tokens(prompts: Iterable[Prompt]) -> tuple[tuple[str, ...], ...]:
    """Groups of different answers that begin with the same token.

    Judged by their first token alone, the answers of a group are one and the same.

    Args:
        prompts: The prompts of a task.

    Returns:
        The outputs of each group, in first-seen order; empty where first tokens tell all apart.
    """
    outputs: dict[int, dict[str, None]] = {}
    for prompt in prompts:
        outputs.setdefault(prompt.answer_ids[0], {})[prompt.query.output] = None
    return tuple(tuple(group) for group in outputs.values() if len(group) > 1)


def beginnings(prompts: Iterable[Prompt]) -> dict[str, str]:
    """Answers that begin another answer, and one that each begins, as outputs.

    Such an answer counts as right although the model goes on with the other one.

    Args:
        prompts: The prompts of a task.
    """
    answers: dict[tuple[int, ...], str] = {}
    for prompt in prompts:
        for ids in (prompt.answer_ids, *prompt.other_answer_ids):
            answers.setdefault(ids, prompt.query.output)
    found: dict[str, str] = {}
    for ids, output in answers.items():
        for length in range(1, len(ids)):
            shorter = answers.get(ids[:length])
            if shorter not in (None, output):
                found.setdefault(str(shorter), output)
    return found


def _indices(prompt: Prompt, position: int | str) -> Iterable[int]:
    length = len(prompt.token_ids)
    if isinstance(position, int):
        if not -length <= position < length:
            raise PositionError(
                f"{prompt} has {length} tokens and no position {position}; give one from "
                f"{-length} to {length - 1}"
            )
        return (position % length,)
    if position in PAST_THE_PROMPT:
        raise PositionError(
            f"{position!r} lies past the prompt, so it has no index in one; it can only be named "
            "where a vector is injected"
        )
    first, stop = prompt.spans["query"]
    names = {
        "last": (length - 1, length),
        "query_first": (first, first + 1),
        "query_last": (stop - 1, stop),
        "all": (0, length),
        **prompt.spans,
    }
    begin, end = names.get(position, (0, 0))
    if begin == end:
        known = ", ".join((*names, *PAST_THE_PROMPT))
        raise PositionError(
            f"{prompt} has no token at {position!r}; give a number or one of: {known}"
        )
    return range(begin, end)
