"""What a family of tasks is: a source of sequences, and of what is read and scored in them.

A learner is trained on a `Batch`: one sequence per task, with every read and every task-vector site
of it. It is measured on an `EvalBatch`: one question per task, which is demonstrations, a dummy
query that the vector is read from, and a fresh query that it is put into. Both know columns and
targets only, so that pairs in any format, and strings of a formal language with a delimiter, are
the same to everything that follows. This module draws nothing and runs no model.

Inputs are token ids `[batch, pos]` or, for real-valued tasks, coordinates `[batch, pos, d_vocab]`:
a token is one coordinate, a real vector is a mixture of several. Sequences are padded on the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from taskvectors.results.learners import IN_DISTRIBUTION

Split = Literal["train", "test"]
"""Tasks that are trained on, and tasks of the same kind that never are."""
HELD_OUT = "held-out"
"""The shift to tasks of the split `test`, in families whose tasks are fixed."""

_Held = TypeVar("_Held", "Batch", "EvalBatch")


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """How much of a family a sequence shows; a curriculum raises it."""

    n_demonstrations: int | None = None
    """Demonstrations; the family's own number by default."""
    n_dims: int | None = None
    """Leading dimensions of inputs that are not zero; all by default."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One training sequence per task.

    Every read is scored by L_ICL. Every site holds a task vector: the state there after block l* is
    put at `site_column` of a fresh query, whose reads are scored by L_TVP. A query may not occur in
    the sequence up to its site.
    """

    inputs: Shaped[Tensor, "batch pos *width"]
    reads: Int[Tensor, "batch read"]
    """Columns where a prediction is read."""
    targets: Shaped[Tensor, "batch read *target"]
    """What `TaskFamily.losses` compares the reads with."""
    weights: Float[Tensor, "batch read"]
    """0 where a read is padding."""
    sites: Int[Tensor, "batch site"]
    """Columns of task vectors, each after at least one demonstration; none in a format without."""
    queries: Shaped[Tensor, "batch site query_pos *width"]
    """A fresh zero-shot prompt of the same task for each site."""
    site_column: int
    """Column of a query at which the vector is put."""
    query_reads: tuple[int, ...]
    """Columns of a query where a prediction is read, none before the site."""
    query_targets: Shaped[Tensor, "batch site query_read *target"]
    query_weights: Float[Tensor, "batch site query_read"]
    """0 where a read, or a whole site, is padding."""

    def with_sites(self, chosen: Int[Tensor, " chosen"]) -> "Batch":
        """The same sequences with some of their sites."""
        return replace(
            self,
            sites=self.sites[:, chosen],
            queries=self.queries[:, chosen],
            query_targets=self.query_targets[:, chosen],
            query_weights=self.query_weights[:, chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalBatch:
    """One question per task.

    In-context learning runs `history` and then `queries`. A task vector is read from `history` and
    then one of `dummies`, at `site_column`, and put at `site_column` of `queries` alone.
    """

    history: Shaped[Tensor, "batch pos *width"]
    """The demonstrations, all of one length."""
    dummies: Shaped[Tensor, "batch dummy dummy_pos *width"]
    """Queries that the vector is read from; where it is read at a delimiter, that one delimiter."""
    queries: Shaped[Tensor, "batch query_pos *width"]
    site_column: int | None
    """Column, within a dummy and within a query, of the vector; None in a format without one."""
    query_reads: tuple[int, ...]
    targets: Shaped[Tensor, "batch query_read *target"]
    """What `TaskFamily.errors` compares the reads with."""
    wrong_targets: Shaped[Tensor, "batch query_read *target"]
    """The same under the task of the row before (`tasks.roll(1, 0)`)."""
    weights: Float[Tensor, "batch query_read"]
    """0 where a read does not count."""
    tasks: Shaped[Tensor, "batch ..."]
    baselines: Mapping[str, Float[Tensor, "batch query_read"]]
    """Errors of predictors that need no learner. `without` is the best that sees no demonstration;
    `optimal` is the best that sees them."""


@runtime_checkable
class TaskFamily(Protocol):
    """A family of tasks: a frozen config that draws.

    Everything is drawn from the generator, on its device; tasks that are fixed (automata, held-out
    offsets) depend on the config alone.
    """

    @property
    def kind(self) -> str:
        """Its name on the command line."""

    @property
    def n_demonstrations(self) -> int:
        """Demonstrations before the last read of a training sequence."""

    @property
    def d_vocab(self) -> int:
        """Tokens, or coordinates of real-valued inputs; the model reads and predicts these."""

    @property
    def shifts(self) -> tuple[str, ...]:
        """Names of the distributions that trials can be drawn from."""

    @property
    def near_optimal(self) -> float:
        """The largest ICL error, at the trained number of demonstrations, that is near optimal."""

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of a sequence with so many demonstrations."""

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Shaped[Tensor, "batch ..."]:
        """Draw tasks."""

    def batch(
        self, tasks: Shaped[Tensor, "batch ..."], generator: torch.Generator, stage: CurriculumStage
    ) -> Batch:
        """Draw a training sequence of each task."""

    def eval_batch(
        self,
        tasks: Shaped[Tensor, "batch ..."],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,
    ) -> EvalBatch:
        """Draw a question for each task."""

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*reads"]:
        """The loss of each read, against a batch's targets."""

    def errors(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "*reads"]:
        """The error of each read; 1 is as bad as knowing nothing."""

    def probe_targets(self, tasks: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch label"]:
        """What a linear probe has to find in a state: the task's parameters, or its one-hot."""


def cross_entropies(
    logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
) -> Float[Tensor, "*reads"]:
    """The losses of families whose answers are tokens."""
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), reduction="none"
    )
    return flat.view(targets.shape)


def wrong_tokens(
    logits: Float[Tensor, "*reads d_vocab"], targets: Int[Tensor, "*reads"]
) -> Float[Tensor, "*reads"]:
    """The errors of families whose answers are tokens: 1 where the arg-max is another one."""
    return (logits.argmax(dim=-1) != targets).float()


def moved(held: _Held, device: torch.device) -> _Held:
    """The same batch on a device."""
    values = {field.name: getattr(held, field.name) for field in fields(held)}
    kept: dict[str, Any] = {
        name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
    }
    if isinstance(held, EvalBatch):
        kept["baselines"] = {name: value.to(device) for name, value in held.baselines.items()}
    return replace(held, **kept)


def generator_for(device: torch.device | str, *words: int) -> torch.Generator:
    """A generator whose draws depend on some numbers alone, such as seed, purpose and step.

    Training data are a function of seed and step, so that a run that was cut off, and a variant
    that continues another, see exactly the sequences that they would have seen.
    """
    state = 0x9E3779B97F4A7C15
    for word in words:  # splitmix64, so that neighbouring numbers do not give related streams
        state = (state + (word + 1) * 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    # MPS has no float64, in which some families draw: what is drawn goes there by `moved`
    where = "cpu" if torch.device(device).type == "mps" else device
    return torch.Generator(where).manual_seed(state % 2**63)
