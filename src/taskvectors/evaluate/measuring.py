"""`evaluate`: a vector on pairs, in one call; and what strength does."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from taskvectors.errors import DataError
from taskvectors.evaluate.labels import Labels
from taskvectors.evaluate.measures import Measures, label_starts, measure
from taskvectors.evaluate.scoring import Scores, score
from taskvectors.models import LanguageModel, as_model
from taskvectors.prompts import (
    Prompt,
    answer_ends,
    beginnings,
    build_prompts,
    ends_of_text,
)
from taskvectors.tasks import Example, Task, as_examples, load_task
from taskvectors.trunk import Branch
from taskvectors.vectors import TaskVector, VectorOrigin, as_vector, check_unseen, task_of

logger = logging.getLogger(__name__)


def evaluate(  # noqa: PLR0913  (what a measurement depends on)
    model: LanguageModel | str | Path,
    examples: Any = None,
    vector: TaskVector | str | PathLike[str] | None = None,
    *,
    template: str | None = None,
    chat: bool | None = None,
    shots: int | None = None,
    demonstrations: Sequence[Example] | None = None,
    strength: float = 1.0,
    seed: int | None = None,
    end_of_answer: bool = False,
    allow_overlap: bool = False,
    memory: int | None = None,
) -> Measures:
    """Accuracy of a model on some pairs, with a vector or without, with its interval.

    What is not given is as the vector was made: task, split, template, chat, demonstrations, seed.

    Args:
        model: What `load_model` returns, or a name or path that it takes.
        examples: The pairs (of `Example`, of (input, output), a DataFrame), or a task or the name
            or path of one for its test split; by default those of the vector's task that were held
            out for test.
        vector: The vector, or its folder; a plain run without one.
        template: Prompt template; `qa` without a vector.
        chat: Whether prompts go through the tokenizer's chat template.
        shots: Demonstrations per prompt; those of the prompts that the vector was made to act on.
        demonstrations: What they are drawn from; the training pairs of the vector's task.
        strength: Factor of the vector.
        seed: Seed of the draw.
        end_of_answer: Count an answer as right only if the next token ends it.
        allow_overlap: Measure also on pairs that the vector was trained on.
        memory: Budget in bytes.

    Raises:
        DataError: There are no pairs, the vector was trained on some of them, or its task is not
            known or has changed.
        VectorMismatchError: The vector was made for another model.
    """
    model, vector = as_model(model), None if vector is None else as_vector(vector)
    origin = VectorOrigin() if vector is None else vector.origin
    if isinstance(examples, str | Path):
        examples = load_task(examples)
    if isinstance(examples, Task):
        demonstrations = examples.train if demonstrations is None else demonstrations
        examples = examples.test
    shots = (origin.used_shots or 0) if shots is None else shots
    if vector is not None and (examples is None or (shots and demonstrations is None)):
        own = task_of(origin)
        examples = own.test if examples is None else examples
        demonstrations = own.train if demonstrations is None else demonstrations
    examples = as_examples(examples)
    if not examples:
        raise DataError("there are no pairs to evaluate on; give at least one")
    if not allow_overlap:
        check_unseen(origin, examples)
    template = template or origin.template or "qa"
    chat = bool(origin.chat) if chat is None else chat
    stops = ends_of_text(model.hf, model.tokenizer)
    prompts = build_prompts(
        model.tokenizer,
        template,
        examples,
        demonstrations=demonstrations or (),
        shots=shots,
        seed=(origin.seed or 0) if seed is None else seed,
        max_tokens=model.context_length,
        chat=chat,
        ends=answer_ends(model.tokenizer, template, stops, chat=chat) if end_of_answer else (),
    )
    begun = {} if end_of_answer else beginnings(prompts)
    if begun:
        logger.warning(
            "%d answer(s) begin another one, as %r begins %r, and count as right though the model "
            "may go on; with end_of_answer=True the next token has to end them",
            len(begun),
            *next(iter(begun.items())),
        )
    strengths = [] if vector is None else [strength]
    return dose_response(model, prompts, vector, strengths, memory=memory)[-1][1]


def dose_response(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vector: TaskVector | None,
    strengths: Sequence[float],
    *,
    labels: Labels | None = None,
    memory: int | None = None,
) -> list[tuple[float, Measures]]:
    """Measures at several signed strengths in one pass; the plain run comes first.

    Args:
        model: The model.
        prompts: Prompts with their answers.
        vector: The vector.
        strengths: Factors; negative ones push away from the task.
        labels: The task's labels, for label accuracy.
        memory: Budget in bytes.
    """
    doses = [0.0, *(s for s in strengths if s != 0)]
    branches: list[Branch] = [()]
    if vector is not None:
        vector.check_model(model)
        branches = [vector.edits(dose) if dose else () for dose in doses]
    scores: Scores = score(model, prompts, branches, labels=labels, memory=memory)
    starts = label_starts(prompts)
    found = {
        dose: measure(scores.branch(i), starts) for i, dose in enumerate(doses[: len(branches)])
    }
    return [(0.0, found[0.0])] + [(s, found[s]) for s in strengths if s in found and s != 0]
