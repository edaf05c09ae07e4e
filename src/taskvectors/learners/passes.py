"""The two forward passes of a learner: in context, and prompted with a task vector.

In the second a query of one or two columns runs alone, and the state at its site is replaced, after
block l, by a state from the first. Only columns that something else reads are run: where the site
is a query's last column, its own lower half is discarded, so it is never computed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from taskvectors.learners.family import Batch, TaskFamily
from taskvectors.models.causal import CausalBody


def gather(
    state: Float[Tensor, "batch pos d"], columns: Int[Tensor, "batch read"]
) -> Float[Tensor, "batch read d"]:
    """States at some columns of each row."""
    return state.gather(1, columns.unsqueeze(-1).expand(-1, -1, state.shape[-1]))


def prompted_states(
    body: CausalBody,
    queries: Shaped[Tensor, "row pos *width"],
    vectors: Float[Tensor, "row d"],
    site_column: int,
    layer: int,
    start: int = 0,
) -> Float[Tensor, "row pos d"]:
    """Final states of queries whose state after block `layer` was replaced at one column.

    Args:
        body: The learner.
        queries: Zero-shot prompts.
        vectors: What is put there.
        site_column: The column.
        layer: The block after which it is put.
        start: Position of the queries' first column; 0 is a zero-shot prompt as it is.
    """
    embedded = body.embed(queries)
    state, arguments = body.enter(embedded, start)
    below, before = range(layer + 1), state[:, :site_column]
    if site_column + 1 < queries.shape[1]:
        state = body.run(state, arguments, below)
        before = state[:, :site_column]
    elif site_column:  # no column reads what the site would have been
        before = body.run(*body.enter(embedded[:, :-1], start), below)
    state = torch.cat([before, vectors.unsqueeze(1), state[:, site_column + 1 :]], dim=1)
    return body.run(state, arguments, range(layer + 1, body.n_layers))


def icl_losses(body: CausalBody, family: TaskFamily, batch: Batch) -> Float[Tensor, "batch read"]:
    """L_ICL's terms: the loss of every read, 0 at padding."""
    state, arguments = body.enter(body.embed(batch.inputs))
    state = body.run(state, arguments, range(body.n_layers))
    logits = body.logits(gather(state, batch.reads))
    return family.losses(logits, batch.targets) * batch.weights


def both_losses(
    body: CausalBody,
    family: TaskFamily,
    batch: Batch,
    layers: Sequence[int],
    *,
    stop_gradient: bool = False,
) -> tuple[Float[Tensor, "batch read"], Float[Tensor, "batch site query_read"]]:
    """The terms of L_ICL and of L_TVP, from one pass over the sequences and one over the queries.

    t_i is the state after block l at the i-th site of the sequence; L_TVP is the loss of a fresh
    query of the same task in which t_i replaces the state after block l at the query's site. With
    several blocks it is the mean of their losses, each with its own t_i put after its own block.

    Args:
        body: The learner.
        family: Says what a loss is.
        batch: The sequences; its sites are where the vectors are read.
        layers: The blocks l, in order, after which they are read and put.
        stop_gradient: Do not let L_TVP change how the vectors are made.

    Source: Yang et al. (2025), https://arxiv.org/abs/2501.09240, the TVP-loss. The paper's formula
        is not known to us; this one is reconstructed from its description.
    """
    state, arguments = body.enter(body.embed(batch.inputs))
    vectors, below = [], 0
    for layer in layers:
        state = body.run(state, arguments, range(below, layer + 1))
        vectors.append(gather(state, batch.sites).flatten(0, 1))
        below = layer + 1
    state = body.run(state, arguments, range(below, body.n_layers))
    logits = body.logits(gather(state, batch.reads))
    in_context = family.losses(logits, batch.targets) * batch.weights
    prompted = [
        _query_losses(body, family, batch, one.detach() if stop_gradient else one, layer)
        for layer, one in zip(layers, vectors, strict=True)
    ]
    return in_context, torch.stack(prompted).mean(dim=0)


def _query_losses(
    body: CausalBody, family: TaskFamily, batch: Batch, vectors: Float[Tensor, "row d"], layer: int
) -> Float[Tensor, "batch site query_read"]:
    """Losses of the queries with a vector in each, after one block."""
    queries = batch.queries.flatten(0, 1)
    final = prompted_states(body, queries, vectors, batch.site_column, layer)
    read = torch.stack([final[:, column] for column in batch.query_reads], dim=1)
    logits = body.logits(read).view(*batch.sites.shape, read.shape[1], -1)
    return family.losses(logits, batch.query_targets) * batch.query_weights


def mean_loss(terms: Float[Tensor, "..."], weights: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean over what is not padding."""
    return terms.sum() / weights.sum().clamp(min=1)
