"""How a task is shown: template, demonstrations and a query become token ids with named positions.

A prompt ends at the answer cue, and its tokens are those of the cue alone, which is what generation
sees; the blank before an answer belongs to the answer. Nothing here is ever padded or cut: padding
is the business of `taskvectors.models`.
"""

from taskvectors.prompts.build import (
    build_prompts,
    draw_demonstrations,
    most_shots,
    prompt_of_text,
    query_text,
    safe_pairs,
)
from taskvectors.prompts.ends import answer_ends, ends_of_text
from taskvectors.prompts.prompt import (
    POSITION_NAMES,
    Prompt,
    beginnings,
    is_position_name,
    n_tokens,
    resolve_positions,
    separators,
    shared_first_tokens,
    with_first_tokens,
)
from taskvectors.prompts.templates import TEMPLATES, Template, load_template
from taskvectors.prompts.tokens import Tokenizer

__all__ = [
    "POSITION_NAMES",
    "TEMPLATES",
    "Prompt",
    "Template",
    "Tokenizer",
    "answer_ends",
    "beginnings",
    "build_prompts",
    "draw_demonstrations",
    "ends_of_text",
    "is_position_name",
    "load_template",
    "most_shots",
    "n_tokens",
    "prompt_of_text",
    "query_text",
    "resolve_positions",
    "safe_pairs",
    "separators",
    "shared_first_tokens",
    "with_first_tokens",
]
