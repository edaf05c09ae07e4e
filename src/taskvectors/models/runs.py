"""What the three engines have in common: prompts that ran once, and branches that run after.

`Recording` (recording.py) is the `trunk` engine: branches run the blocks above their first edit
over the prefix's keys and values. `Passes` (passes.py) are the other two: a full pass over what
follows the prefix with the model's own cache (`cached`), or over whole prompts (`whole`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.packing import Packing
from taskvectors.models.sites import Component

Site = tuple[int, Component]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenIndex:
    """Where the suffix tokens of some prompts lie among the tokens of a run.

    Column c of row r of branch b is token b * n_tokens + offsets[r] + c.
    """

    rows: Int[Tensor, " row"] | None
    """The prompts that run; None for all of them in order."""
    n_tokens: int
    """Tokens per branch."""
    offsets: Int[Tensor, " row"]


@runtime_checkable
class Changes(Protocol):
    """What branches change, by where they change it."""

    def at(self, layer: int) -> Iterable[Component]:
        """The components of a layer that some branch changes."""

    def apply(self, site: Site, state: Tensor, index: TokenIndex) -> Tensor:
        """What a site holds after the changes; the last axis is the site's, the others tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRequest:
    """Branches of some prompts, in the order in which they first differ from the plain run."""

    rows: Int[Tensor, " row"] | None
    """Prompts that run; None for all of them in order."""
    packing: Packing
    starts: Sequence[int]
    """The layer after which each branch first differs, or is to be run."""
    changes: Changes
    sites: Sequence[Site] = ()
    """Sites to read, above every start."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """What a run leaves."""

    states: Float[Tensor, "row branch suffix d_model"]
    """`resid_post` of the last block."""
    read: Mapping[Site, Float[Tensor, "row branch suffix width"]]


@runtime_checkable
class Prepared(Protocol):
    """Prompts that ran once, plain."""

    sites: dict[Site, Float[Tensor, "prompt suffix width"]]

    def residual(self, layer: int) -> Float[Tensor, "prompt suffix d_model"]:
        """Plain `resid_post` of a layer; -1 is the layer below block 0."""

    def run(self, request: RunRequest) -> RunResult:
        """Run branches; differentiable in what the changes put in."""

    def tensors(self) -> Iterable[Tensor]:
        """Everything that is kept."""


def in_order(by_branch: Tensor, packing: Packing) -> Float[Tensor, "row branch suffix width"]:
    """From `[branch, token, width]` of packed tokens to rows."""
    return packing.pad(by_branch, dim=1).transpose(0, 1)
