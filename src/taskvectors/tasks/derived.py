"""Tasks made from tasks: both directions of a mapping, one of them turned round, other label words.

Splits stay what they are: pairs move with the split that they are in.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from taskvectors.errors import DataError
from taskvectors.tasks.task import Example, Task


def reversed_task(task: Task) -> Task:
    """The mapping the other way: each output asks for its input."""
    turned = _each(task, lambda pair: Example(input=pair.output, output=pair.input))
    return replace(turned, name=f"{task.name}-reversed")


def both_directions(task: Task) -> Task:
    """Every pair and its reverse, with nothing but the query to tell the direction."""
    back = reversed_task(task)
    return replace(
        task,
        name=f"{task.name}-both-ways",
        train=(*task.train, *back.train),
        validation=(*task.validation, *back.validation),
        test=(*task.test, *back.test),
        request=None,
    )


def one_to_one(task: Task) -> Task:
    """The pairs of a mapping whose direction can be told from either word.

    Pairs are left out if a word of theirs is in another pair, too, or stands on both sides: asked
    for such a word, both directions would be right, or neither would have one answer.

    Raises:
        DataError: A split has no pair left.
    """
    pairs = (*task.train, *task.validation, *task.test)
    words = Counter(word for pair in pairs for word in (pair.input, pair.output))

    def is_clear(pair: Example) -> bool:
        return words[pair.input] == words[pair.output] == 1 and pair.input != pair.output

    kept = replace(
        task,
        train=tuple(filter(is_clear, task.train)),
        validation=tuple(filter(is_clear, task.validation)),
        test=tuple(filter(is_clear, task.test)),
        request=None,
    )
    left = len(kept.train) + len(kept.validation) + len(kept.test)
    if not (kept.train and kept.validation and kept.test):
        raise DataError(
            f"{task.name} has {left} of {len(pairs)} pairs whose words are in no other pair, and a "
            "split without any; a mapping that is one word to one word is needed"
        )
    note = f"{len(pairs) - left} pairs were left out whose direction a word does not tell"
    return replace(kept, notes=(*task.notes, note))


def copying(task: Task) -> Task:
    """The control that is the same in both directions: each input asks for itself."""
    copied = _each(task, lambda pair: Example(input=pair.input, output=pair.input))
    return replace(copied, name=f"{task.name}-copied")


def relabelled(task: Task, words: Mapping[str, str], name: str) -> Task:
    """The same task with other label words.

    Args:
        task: A task with few labels.
        words: The new word of each label.
        name: Name of the new task.

    Raises:
        DataError: A label has no new word.
    """
    missing = sorted(set(task.labels) - set(words))
    if missing:
        raise DataError(f"{task.name} has labels {', '.join(missing)} without a new word; add them")
    changed = _each(task, lambda pair: Example(input=pair.input, output=words[pair.output]))
    return replace(changed, name=name)


def _each(task: Task, change: Callable[[Example], Example]) -> Task:
    return replace(
        task,
        train=tuple(map(change, task.train)),
        validation=tuple(map(change, task.validation)),
        test=tuple(map(change, task.test)),
        request=None,
    )
