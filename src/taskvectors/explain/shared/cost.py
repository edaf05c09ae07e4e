"""What the passes of an analysis depend on, and the passes that several analyses have.

Passes through the model are counted; decompositions of matrices and bootstraps are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk.work import Work, work_of


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Vectors that are explained, each added at one layer at the last token.

    Attributes:
        context: Model, task, demonstrations.
        layers: Their layers; the first is the vector's that most analyses are of.
        n_tasks: Tasks that they are of, counted as large as the context's own.
        limit: Most prompts of a split that analyses use.
        has_other: Whether another task's vector stands beside.
    """

    context: RunContext
    layers: tuple[int, ...]
    n_tasks: int = 2
    limit: int = 100
    has_other: bool = True

    @property
    def layer(self) -> int:
        """The explained vector's."""
        return self.layers[0]

    def prompts(self, split: Split, shots: int = 0) -> tuple[Prompt, ...]:
        """Those that analyses use."""
        return self.context.prompts(split, shots)[: self.limit]

    def branches(self, name: str, prompts: Sequence[Prompt], n: int) -> Work:
        """Some branches that join at the vector's layer."""
        return work_of(name, prompts, (-1,), [self.layer] * n, self.context.model.n_layers)

    def two_runs(self, name: str, prompts: Sequence[Prompt]) -> Work:
        """The plain and the injected run, of which states are read and no logits made."""
        return replace(self.branches(name, with_first_tokens(prompts), 2), rows=0.0)


def plain(context: RunContext, shots: int) -> Work:
    """The test split as it is."""
    n_layers = context.model.n_layers
    return work_of("plain", context.prompts("test", shots), (-1,), [n_layers - 1], n_layers)


def nothing(sizes: Sizes) -> list[Work]:
    """Vectors are read and compared as they are: nothing is run."""
    del sizes
    return []
