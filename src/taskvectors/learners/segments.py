"""Families of sequences with a delimiter: the task vector sits at the delimiter.

A site is a delimiter of a training sequence; its query is a segment of the same task, the delimiter
first, that the site has not seen. Every position of the segment is read, and in trials every one
but the delimiter's own counts: that is read where the vector is put, with no query before it, so
that after the last block it is in-context learning's own prediction whatever the vector is. This
module puts what a family drew into batches.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from taskvectors.learners.family import Batch, EvalBatch

SITE_COLUMN = 0
"""The delimiter opens a query."""


def chosen_sites(
    is_site: Bool[Tensor, "batch pos"], n: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch site"], Float[Tensor, "batch site"]]:
    """Up to `n` of each row's sites, drawn without preference; a weight of 0 where there are fewer.

    Args:
        is_site: Where a vector can be read.
        n: How many per row.
        generator: Where randomness comes from.
    """
    keys = torch.rand(is_site.shape, generator=generator, device=is_site.device)
    found = keys.masked_fill(~is_site, -1).topk(min(n, is_site.shape[1]))
    return found.indices, (found.values >= 0).float()


def segment_batch(
    tokens: Int[Tensor, "batch pos"],
    counted: Bool[Tensor, "batch read"],
    sites: tuple[Int[Tensor, "batch site"], Float[Tensor, "batch site"]],
    segments: Int[Tensor, "batch site segment_pos"],
) -> Batch:
    """Training sequences: each next token is predicted, and each position of a site's segment.

    Args:
        tokens: The sequences.
        counted: Which next tokens count; the last column has none.
        sites: Columns of delimiters, and weights.
        segments: A segment for each site, its delimiter first.
    """
    columns, site_weights = sites
    batch, width = tokens.shape
    n_reads = segments.shape[-1] - 1
    return Batch(
        inputs=tokens,
        reads=torch.arange(width - 1, device=tokens.device).expand(batch, -1),
        targets=tokens[:, 1:],
        weights=counted.float(),
        sites=columns,
        queries=segments[..., :-1],
        site_column=SITE_COLUMN,
        query_reads=tuple(range(n_reads)),
        query_targets=segments[..., 1:],
        query_weights=site_weights.unsqueeze(-1).expand(-1, -1, n_reads),
    )


def segment_eval_batch(
    history: Int[Tensor, "batch pos"],
    segment: Int[Tensor, "batch segment_pos"],
    targets: Shaped[Tensor, "batch segment_pos *target"],
    wrong_targets: Shaped[Tensor, "batch segment_pos *target"],
    tasks: Int[Tensor, " batch"],
    baselines: Mapping[str, Float[Tensor, "batch segment_pos"]],
) -> EvalBatch:
    """A question per task: what comes after each token of a segment.

    A delimiter has seen no query, so there is one dummy.

    Args:
        history: What is shown before.
        segment: A fresh segment, its delimiter first and its last token left out.
        targets: What is right after each of its tokens.
        wrong_targets: What would be under the task of the row before.
        tasks: The tasks.
        baselines: Errors of predictors that need no learner.
    """
    weights = torch.ones(segment.shape, device=segment.device)
    weights[:, SITE_COLUMN] = 0
    return EvalBatch(
        history=history,
        dummies=segment[:, None, : SITE_COLUMN + 1],
        queries=segment,
        site_column=SITE_COLUMN,
        query_reads=tuple(range(segment.shape[1])),
        targets=targets,
        wrong_targets=wrong_targets,
        weights=weights,
        tasks=tasks,
        baselines=baselines,
    )
