"""The two values everything else is about: a pair, and a task made of three lists of pairs.

`TaskData` is what a source holds before it is split; only this folder sees it.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taskvectors.format import html_table
from taskvectors.tasks.request import TaskRequest

if TYPE_CHECKING:
    import pandas as pd

_SPLITS = ("train", "validation", "test")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Example:
    """One pair: what is asked, and the answer that counts as right."""

    input: str
    output: str
    also: tuple[str, ...] = ()
    """Further answers that count as right; demonstrations and training show `output`."""

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers that count as right, `output` first."""
        return (self.output, *self.also)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A named task, split into pairs to learn from, to choose on and to test on.

    Attributes:
        name: Short name, such as `capital`.
        description: One sentence.
        template: Name of the prompt template the pairs are meant for.
        source: Where the pairs come from.
        license: Licence of the pairs.
        seed: Seed of the split.
        train: Pairs that vectors are learned from and demonstrations are drawn from.
        validation: Pairs that layers, strengths and steps are chosen on.
        test: Pairs that results are reported on.
        notes: What was dropped, left out or short, in sentences for people.
        request: What it was loaded from; None where pairs came from memory or were changed.
    """

    name: str
    description: str
    template: str
    source: str
    license: str
    seed: int
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    request: TaskRequest | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(getattr(self, name))}" for name in _SPLITS)
        return f"Task({self.name!r}, {sizes}, seed {self.seed})"

    def _repr_html_(self) -> str:
        """Its sizes and the first pairs of its training split."""
        sizes = ", ".join(f"{name} {len(getattr(self, name))}" for name in _SPLITS)
        title = f"{self.name}: {self.description or self.source} ({sizes}, seed {self.seed})"
        shown = [(pair.input, pair.output) for pair in self.train[:_SHOWN]]
        return html_table(title, ("input", "output"), shown)

    def to_frame(self) -> "pd.DataFrame":
        """Its pairs, a row each: split, input, output, and further right answers."""
        import pandas as pd

        rows = [
            (name, pair.input, pair.output, pair.also)
            for name in _SPLITS
            for pair in getattr(self, name)
        ]
        return pd.DataFrame(rows, columns=["split", "input", "output", "also"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct outputs over all splits, in the order in which they are first seen."""
        pairs = (*self.train, *self.validation, *self.test)
        return tuple(dict.fromkeys(pair.output for pair in pairs))

    def with_seed(self, seed: int) -> "Task":
        """The task on another seed: split anew where its source is known, else the same pairs.

        Args:
            seed: Seed of the split, and of whatever is drawn for it.

        Raises:
            DataError: The source is not there any more.
        """
        if seed == self.seed:
            return self
        if self.request is None:
            return replace(self, seed=seed)
        return replace(self.request, seed=seed).load()

    def shuffled(self, seed: int) -> "Task":
        """The control task whose training and validation answers carry no information.

        Outputs are permuted among the inputs of their own split, so that the share of each label
        stays what it was; the test split is untouched.

        Args:
            seed: Seed of the two permutations.

        Returns:
            A task with the same inputs in the same order, and a note that says what was done.
        """
        return replace(
            self,
            train=_permuted(self.train, f"{seed} train"),
            validation=_permuted(self.validation, f"{seed} validation"),
            notes=(*self.notes, f"training and validation outputs were shuffled (seed {seed})"),
            request=None,
        )


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """What a source holds, before it is split.

    Attributes:
        name: Short name.
        description: One sentence, or nothing.
        template: Name of a prompt template.
        source: Where the pairs come from.
        license: Licence of the pairs.
        splits: Pairs by name of the split: `train` alone where the source has no splits of its own.
        notes: What the reader has to report.
    """

    name: str
    description: str
    template: str
    source: str
    license: str
    splits: Mapping[str, tuple[Example, ...]]
    notes: tuple[str, ...] = ()


def _permuted(pairs: tuple[Example, ...], seed: str) -> tuple[Example, ...]:
    outputs = [(pair.output, pair.also) for pair in pairs]
    random.Random(seed).shuffle(outputs)
    return tuple(
        Example(input=pair.input, output=output, also=also)
        for pair, (output, also) in zip(pairs, outputs, strict=True)
    )
