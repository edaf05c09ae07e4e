"""`evaluate`: a vector on pairs, in one call; and what strength does."""

from collections.abc import Sequence

from taskvectors.errors import DataError
from taskvectors.evaluate.measures import Measures, label_starts, measure
from taskvectors.evaluate.scoring import Labels, Scores, score
from taskvectors.models import LanguageModel
from taskvectors.prompts import Prompt, build_prompts
from taskvectors.tasks import Example
from taskvectors.trunk import Branch
from taskvectors.vectors import TaskVector


def evaluate(  # noqa: PLR0913  (what a measurement depends on)
    model: LanguageModel,
    examples: Sequence[Example],
    vector: TaskVector | None = None,
    *,
    template: str | None = None,
    shots: int = 0,
    demonstrations: Sequence[Example] = (),
    strength: float = 1.0,
    seed: int = 0,
    memory: int | None = None,
) -> Measures:
    """Accuracy of a model on some pairs, with a vector or without, with its interval.

    Args:
        model: The model.
        examples: The pairs.
        vector: The vector; a plain run without one.
        template: Prompt template; the vector's own by default, else `qa`.
        shots: Demonstrations per prompt.
        demonstrations: What they are drawn from.
        strength: Factor of the vector.
        seed: Seed of the draw.
        memory: Budget in bytes.

    Raises:
        DataError: There are no pairs.
        VectorMismatchError: The vector was made for another model.
    """
    if not examples:
        raise DataError("there are no pairs to evaluate on; give at least one")
    if template is None:
        template = (vector.origin.template if vector is not None else "") or "qa"
    prompts = build_prompts(
        model.tokenizer,
        template,
        examples,
        demonstrations=demonstrations,
        shots=shots,
        seed=seed,
        max_tokens=model.context_length,
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
