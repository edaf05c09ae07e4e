"""Families of pairs (x, f(x)), written in one of four formats.

A pair family says how inputs and outputs become rows of a sequence, and draws them; this module
puts the rows in order. In `xzy` and `xzyd` the task vector sits at z after x, where y is predicted;
in `zxy` it sits at z, and y is predicted at x; in `xy` every site is a query, so there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from taskvectors.learners.family import Batch, CurriculumStage, EvalBatch

Format = Literal["xy", "xzy", "zxy", "xzyd"]
"""F0 to F3: pairs, a separator z between x and y, z before x, and a delimiter after each pair."""
_TAILS: dict[Format, str] = {"xy": "x", "xzy": "xz", "zxy": "zx", "xzyd": "xz"}


@runtime_checkable
class PairRows(Protocol):
    """How the pieces of a pair become rows of a sequence: token ids, or coordinates."""

    def input_rows(self, x: Tensor) -> Shaped[Tensor, "batch n *width"]:
        """Rows of inputs."""

    def output_rows(self, y: Tensor) -> Shaped[Tensor, "batch n *width"]:
        """Rows of outputs."""

    def marker_row(self, marker: Literal["z", "d"], like: Tensor) -> Shaped[Tensor, "*width"]:
        """The row of the separator or of the delimiter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """The pieces of a trial of pairs, before they are written in a format."""

    x: Shaped[Tensor, "batch n *d"]
    """Inputs of the demonstrations."""
    y: Shaped[Tensor, "batch n"]
    dummies: Shaped[Tensor, "batch dummy *d"]
    query: Shaped[Tensor, "batch ..."]
    answer: Shaped[Tensor, " batch"]
    wrong_answer: Shaped[Tensor, " batch"]
    """The query's answer under the task of the row before."""
    tasks: Shaped[Tensor, "batch ..."]
    baselines: Mapping[str, Float[Tensor, " batch"]]


def columns_of(form: Format, n_demonstrations: int) -> int:
    """Columns of a sequence of demonstrations and a query."""
    return n_demonstrations * len(form) + len(_TAILS[form])


def site_column(form: Format) -> int | None:
    """Where in a query the task vector sits."""
    return None if form == "xy" else _TAILS[form].index("z")


def read_column(form: Format) -> int:
    """Where in a query its answer is predicted: at its last column."""
    return len(_TAILS[form]) - 1


def pair_batch(rows: PairRows, form: Format, x: Tensor, y: Tensor) -> Batch:
    """Training sequences of n demonstrations and a query, with a fresh query for each site.

    The vector at the i-th z has seen i demonstrations and the i-th input; the fresh query is the
    next input, which nothing up to that z has seen.

    Args:
        rows: How pieces become rows.
        form: The format.
        x: Inputs of the demonstrations, of the query, and one more: n + 2.
        y: Their outputs.

    Source: Yang et al. (2025), https://arxiv.org/abs/2501.09240. Their formula is not known to us;
        the fresh query and the sites with at least one demonstration are our choice.
    """
    batch, n = x.shape[0], x.shape[1] - 2
    tails = _written(rows, _TAILS[form], x, y)
    history = _written(rows, form, x[:, :n], y[:, :n]).flatten(1, 2)
    at = torch.arange(n + 1, device=x.device) * len(form)
    site = site_column(form)
    first = n + 1 if site is None else 1  # a format without sites has no queries either
    read = read_column(form)
    return Batch(
        inputs=torch.cat([history, tails[:, n]], dim=1),
        reads=(at + read).expand(batch, -1),
        targets=y[:, : n + 1],
        weights=torch.ones(batch, n + 1, device=x.device),
        sites=(at[first:] + (site or 0)).expand(batch, -1),
        queries=tails[:, first + 1 :],
        site_column=site or 0,
        query_reads=(read,),
        query_targets=y[:, first + 1 :, None],
        query_weights=torch.ones(batch, n + 1 - first, 1, device=x.device),
    )


def pair_eval_batch(rows: PairRows, form: Format, asked: Question) -> EvalBatch:
    """A question in a format."""
    tail = _TAILS[form]
    query = asked.query.unsqueeze(1)
    return EvalBatch(
        history=_written(rows, form, asked.x, asked.y).flatten(1, 2),
        dummies=_written(rows, tail, asked.dummies, None),
        queries=_written(rows, tail, query, None)[:, 0],
        site_column=site_column(form),
        query_reads=(read_column(form),),
        targets=asked.answer.unsqueeze(1),
        wrong_targets=asked.wrong_answer.unsqueeze(1),
        weights=torch.ones(len(query), 1, device=query.device),
        tasks=asked.tasks,
        baselines={name: error.unsqueeze(1) for name, error in asked.baselines.items()},
    )


def _written(
    rows: PairRows, pieces: str, x: Tensor, y: Tensor | None
) -> Shaped[Tensor, "batch n piece *width"]:
    """Each pair's pieces in order."""
    inputs = rows.input_rows(x)
    written = []
    for piece in pieces:
        if piece == "x":
            written.append(inputs)
        elif piece == "y":
            assert y is not None
            written.append(rows.output_rows(y))
        else:
            marker = rows.marker_row("z" if piece == "z" else "d", inputs)
            written.append(marker.expand_as(inputs))
    return torch.stack(written, dim=2)


def shown_demonstrations(stage: CurriculumStage, n_demonstrations: int) -> int:
    """Demonstrations of a training sequence."""
    return n_demonstrations if stage.n_demonstrations is None else stage.n_demonstrations
