"""Answers in words: what the model writes for a few test items, without and with a vector."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from taskvectors.methods import Candidate, RunContext
from taskvectors.models.calls import contiguous_unembedding
from taskvectors.prompts import Prompt
from taskvectors.vectors import inject

EXTRA_TOKENS = 4
"""Generated beyond the longest right answer, so that one that goes on is seen to."""


def shown_answers(
    context: RunContext, candidates: Mapping[str, Candidate], n_items: int
) -> list[Mapping[str, Any]]:
    """The first test items with what each candidate generates, cut at the end of the line."""
    items = context.task.test[:n_items]
    found = {
        name: generate_answers(context, candidate, context.ask(items, candidate.shots))
        for name, candidate in candidates.items()
    }
    return [
        {
            "input": item.input,
            "answer": item.output,
            "predictions": {name: answers[index][0] for name, answers in found.items()},
            "correct": {name: answers[index][1] for name, answers in found.items()},
        }
        for index, item in enumerate(items)
    ]


def generate_answers(
    context: RunContext, candidate: Candidate, prompts: tuple[Prompt, ...]
) -> list[tuple[str, bool]]:
    """Greedy continuations up to a line's end, and whether they begin with the right answer."""
    model, tokenizer = context.model, context.model.tokenizer
    width = max(len(prompt.token_ids) for prompt in prompts)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    rows = [[pad] * (width - len(p.token_ids)) + list(p.token_ids) for p in prompts]
    mask = [[0] * (width - len(p.token_ids)) + [1] * len(p.token_ids) for p in prompts]
    n_new = max(len(prompt.answer_ids) for prompt in prompts) + EXTRA_TOKENS
    around: Any = nullcontext()
    if candidate.vector is not None:
        around = inject(model, candidate.vector, strength=candidate.strength, prompts=prompts)
    with torch.inference_mode(), contiguous_unembedding(model), around:
        out = model.hf.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=n_new,
            do_sample=False,
            pad_token_id=pad,
        )
    new = out[:, width:].tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [
        (text.strip().split("\n")[0].strip(), _begins_right(ids, prompt))
        for text, ids, prompt in zip(texts, new, prompts, strict=True)
    ]


def _begins_right(ids: list[int], prompt: Prompt) -> bool:
    """Whether generated tokens begin with one of the right answers."""
    answers = (prompt.answer_ids, *prompt.other_answer_ids)
    return any(tuple(ids[: len(answer)]) == answer for answer in answers)
