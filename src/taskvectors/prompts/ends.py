"""What ends an answer: the tokens that may follow one that the model does not go on with."""

from collections.abc import Sequence
from typing import Any

from taskvectors.prompts.templates import Template, load_template
from taskvectors.prompts.tokens import Tokenizer


def answer_ends(
    tokenizer: Tokenizer, template: Template | str, end_of_text: Sequence[int], *, chat: bool
) -> tuple[int, ...]:
    r"""Tokens that end an answer: those of the end of text, and those the template goes on with.

    A token goes on as the template does if its text begins with the character that follows an
    answer there, such as a new line: `"\n"` and `"\n\n"` both end an answer of `qa`.

    Args:
        tokenizer: The tokenizer.
        template: A template, or what `load_template` takes.
        end_of_text: Tokens that end a text or a turn, as the model's generation has them.
        chat: Whether prompts are a chat, in which nothing but the end of a turn ends an answer.
    """
    if isinstance(template, str):
        template = load_template(template)
    size = max(tokenizer.get_vocab().values()) + 1
    ends = {token for token in end_of_text if 0 <= token < size}
    if not chat:
        following = (template.parts[2] + template.separator)[0]
        texts: list[str] = tokenizer.batch_decode(
            [[token] for token in range(size)], clean_up_tokenization_spaces=False
        )
        ends |= {token for token, text in enumerate(texts) if text.startswith(following)}
    return tuple(sorted(ends))


def ends_of_text(hf: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens at which a model's generation stops."""
    named = getattr(getattr(hf, "generation_config", None), "eos_token_id", None)
    found = named if isinstance(named, list | tuple) else [named]
    return tuple({token for token in (*found, tokenizer.eos_token_id) if token is not None})
