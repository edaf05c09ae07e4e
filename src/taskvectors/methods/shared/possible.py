"""What a config asks of a model and a task that they do not have: said before any work."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from taskvectors.errors import PromptTooLongError, TaskVectorsError
from taskvectors.methods.shared.layers import layer_groups
from taskvectors.methods.shared.method import METHODS
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.prompts import resolve_positions


def check_possible(context: RunContext, config: Any, splits: Sequence[Split]) -> None:
    """Check that layers, positions and training pairs that a method is asked for are there.

    Args:
        context: Model and task.
        config: The method's config.
        splits: The splits whose prompts need the positions.

    Raises:
        UnsupportedModelError: The model has no such layer.
        PositionError: A prompt has no such position.
        DataError: A few-shot prompt needs more demonstrations than there are.
        TaskVectorsError: There are fewer training pairs.
    """
    asked = {name: getattr(config, name) for name in type(config).model_fields}
    layer_groups(context.model, asked.get("layers"), each_layer=True)
    shots = asked.get("train_shots")
    # what is trained has no token of its own after the prompt; what is extracted can be put there
    further = () if shots is not None else ("generated",)
    places = tuple(p for p in asked.get("positions", ()) if p not in further)
    for split in splits if shots or set(places) - {-1, "last"} else ():
        for prompt in context.prompts(split, shots or 0):
            resolve_positions(prompt, places)
    # what is trained starts from zero where there is no few-shot run, and says so
    reads = shots is None and METHODS[config.kind].reads_shots(config)
    if asked.get("shots") or reads:
        # the first query is enough: what is missing is missing for all of them
        with suppress(PromptTooLongError):
            for split in splits:
                context.ask(getattr(context.task, split)[:1], asked.get("shots") or context.shots)
    n_examples, n_train = asked.get("n_examples"), len(context.task.train)
    if n_examples is not None and n_examples > n_train:
        raise TaskVectorsError(
            f"n_examples {n_examples} are more than the {n_train} training pairs of "
            f"{context.task.name}; ask for fewer, or for a larger n_train"
        )
