"""The task a vector was made for: loaded again and checked, and kept apart from its training pairs.

A vector keeps what its task was loaded from, and hashes of its pairs. So `evaluate` can score the
very pairs that were held out, and refuses those that the vector was trained on.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taskvectors.errors import DataError
from taskvectors.tasks import Example, Task, TaskRequest, hash_of_pairs, hashes_of_pairs
from taskvectors.vectors.origin import VectorOrigin

logger = logging.getLogger(__name__)

_HELD_OUT = ("validation", "test")


def task_of(origin: VectorOrigin, source: str = "", **changes: Any) -> Task:
    """The task a vector was made for, split as it was then, or another one.

    Args:
        origin: The vector's origin.
        source: Another task, in place of the vector's own; it is split by the vector's seed.
        changes: Further fields of `TaskRequest` that are asked for, such as `seed` and `n_test`.

    Raises:
        DataError: The vector does not say what its task was loaded from, and no source is given;
            the source is gone; or its pairs are not those the vector was made on.
    """
    own = origin.request
    if source:
        seed = origin.seed or 0
        kept = {} if own is None else {name: getattr(own, name) for name in _SIZES}
        asked = TaskRequest(**{"source": source, "seed": seed, **kept, **changes})
    elif own is None:
        raise DataError(
            f"{origin.label} does not say what its task was loaded from: it was made of pairs in "
            "memory, or by an earlier version; name the task (--task, and --seed and --n-test "
            "where they were not the default)"
        )
    else:
        asked = replace(own, **changes)
    task = asked.load()
    if own is not None and task.request == own:
        _check_unchanged(origin, task)
    return task


_SIZES = ("n_train", "n_validation", "n_test")


def _check_unchanged(origin: VectorOrigin, task: Task) -> None:
    """Raise unless a task has the pairs that it had when the vector was made."""
    changed = [
        name
        for name in _HELD_OUT
        if origin.split_hashes.get(name) not in (None, hash_of_pairs(getattr(task, name)))
    ]
    if not set(origin.trained_pairs) <= set(hashes_of_pairs(task.train)):
        changed.insert(0, "training")
    if changed:
        raise DataError(
            f"the pairs of {task.source} have changed since {origin.label} was made: its "
            f"{' and '.join(changed)} pairs are no longer the same. Give them as they were, or "
            "make the vector again"
        )


def check_unseen(origin: VectorOrigin, examples: Sequence[Example]) -> None:
    """Raise if a vector was trained on some of the pairs, or on the reverse of one.

    A vector that does not say its training pairs passes, with a warning.

    Raises:
        DataError: It was; the message says how many, and what to do.
    """
    if not origin.trained_pairs:
        if origin.task:
            logger.warning(
                "%s does not say which pairs it was trained on; make sure that the pairs it is "
                "measured on are others",
                origin.label,
            )
        return
    trained = set(origin.trained_pairs)
    seen = sum(one in trained for one in hashes_of_pairs(examples))
    if seen:
        raise DataError(
            f"{origin.label} was trained on {seen} of these {len(examples)} pairs, so its accuracy "
            "on them says little. Measure it on the pairs that were held out (leave out the seed, "
            "split and sizes), or allow the overlap (--allow-overlap; allow_overlap=True in Python)"
        )
