"""What a task was loaded from, and hashes of its pairs: enough to load the same one again."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

if TYPE_CHECKING:
    from taskvectors.tasks.task import Example, Task


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """The arguments of `load_task`; a relative path is made absolute."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: str
    """A built-in name, a path, or `hub:` with what follows it."""
    seed: int = 0
    n_train: int = 300
    n_validation: int = 100
    n_test: int = 200
    input_column: str = "input"
    output_column: str = "output"
    labels: dict[str, str] = field(default_factory=dict)
    strip: bool = False

    def load(self) -> "Task":
        """The task.

        Raises:
            DataError: The source is not there any more, or cannot be read.
        """
        from taskvectors.tasks.load import load_task

        return load_task(**asdict(self))


def hash_of_pairs(pairs: "Iterable[Example]") -> str:
    """A hash of pairs in their order, every right answer of each included."""
    texts = [[pair.input, *pair.answers] for pair in pairs]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def hashes_of_pairs(pairs: "Iterable[Example]") -> tuple[str, ...]:
    """A short hash of each pair, the same for a pair and its reverse."""
    return tuple(
        hashlib.sha256(json.dumps(sorted((pair.input, pair.output))).encode()).hexdigest()[:12]
        for pair in pairs
    )
