"""Key heads: which heads a vector works through, by a first-order estimate of removing them.

A head's score is the mean over queries of |<z, ∂p/∂z>|, with the vector injected: z is the head's
output before W_O at the last prompt token, p the probability of the answer. The top tenth of the
heads above the vector are its key heads.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from taskvectors.explain.case import heads_above
from taskvectors.explain.head_removal import removal_effects
from taskvectors.models import LanguageModel, capture
from taskvectors.models.unembedding import token_losses
from taskvectors.prompts import Prompt
from taskvectors.results.figures import Heatmap
from taskvectors.trunk import Trunk, prompts_that_fit, resolve_budget, shape_of
from taskvectors.vectors import TaskVector

NAME = "key-heads"
SHARE = 0.1
"""Of the heads above the vector are key heads; at least one is."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One head and its score."""

    layer: int
    head: int
    score: float
    removed: float
    """Mean change of the probability of the answer's first token when the head is put to zero at
    the last token: what the score estimates, with its sign."""
    rank: int
    """0 for the highest score."""
    is_key: bool

    @property
    def place(self) -> tuple[int, int]:
        """Layer and head."""
        return self.layer, self.head


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyHeads:
    """All heads above a vector."""

    heads: tuple[Head, ...]
    """By layer and head."""
    n: int
    """Prompts."""

    @property
    def ranked(self) -> tuple[tuple[int, int], ...]:
        """Layers and heads, the highest score first."""
        return tuple(head.place for head in sorted(self.heads, key=lambda head: head.rank))

    @property
    def key(self) -> tuple[tuple[int, int], ...]:
        """Layers and heads of the key heads, the highest score first."""
        return self.ranked[: sum(head.is_key for head in self.heads)]

    def to_frame(self) -> pd.DataFrame:
        """One row per head."""
        return pd.DataFrame([vars(head) for head in self.heads]).assign(n=self.n)

    def figure(self) -> Heatmap:
        """Scores by layer and head, key heads framed."""
        layers = sorted({head.layer for head in self.heads})
        columns = sorted({head.head for head in self.heads})
        scores = {head.place: head.score for head in self.heads}
        return Heatmap(
            name=NAME,
            title="Which heads the vector works through",
            x_label="Head",
            y_label="Layer",
            columns=tuple(map(str, columns)),
            rows=tuple(map(str, layers)),
            values=tuple(tuple(scores[layer, head] for head in columns) for layer in layers),
            value_label="score, |z · ∂p/∂z|",
            limits=(0.0, max(scores.values()) or 1.0),
            marked=tuple(
                (layers.index(layer), columns.index(head)) for layer, head in sorted(self.key)
            ),
            mark_label=f"key heads, the top {SHARE:.0%}",
            caption=(
                f"Mean over {self.n} training queries of |z · ∂p/∂z| at the last token, with the "
                "vector injected."
            ),
        )


def key_heads(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    vector: TaskVector,
    *,
    share: float = SHARE,
    memory: int | None = None,
) -> KeyHeads:
    """Score every head above a vector.

    Args:
        model: The model.
        prompts: Training queries with their answers.
        vector: The vector, anywhere in the prompt.
        share: Of the heads, those with the highest scores, are key heads.
        memory: Budget in bytes.

    Raises:
        TaskVectorsError: No head lies above the vector.

    Source:
        Yang et al. (2026), https://arxiv.org/abs/2509.24169, after Molchanov et al. (2017),
        https://arxiv.org/abs/1611.06440. We differ: of an answer of several tokens p is the
        exponential of their mean log-probability, and products are summed over the positions that
        predict them before the absolute value is taken; only heads above the vector are ranked.
    """
    layers = heads_above(model, vector, "the score of key heads")
    budget = resolve_budget(memory, model.device)
    shape = shape_of(prompts, vector.positions, n_branches=1, is_training=True)
    step = prompts_that_fit(model, shape, budget)
    total = torch.zeros(len(layers), model.n_heads)
    for start in range(0, len(prompts), step):
        total += head_products(model, prompts[start : start + step], vector, layers).abs().sum(0)
    scores = total / len(prompts)
    removed = removal_effects(model, prompts, vector.edits(), layers=layers, memory=memory).mean(0)
    order = scores.flatten().argsort(descending=True, stable=True).tolist()
    n_key = max(1, round(share * len(order)))
    ranks = {index: rank for rank, index in enumerate(order)}
    heads = tuple(
        Head(
            layer=layer,
            head=head,
            score=float(scores[row, head]),
            removed=float(removed[row, head]),
            rank=(rank := ranks[row * model.n_heads + head]),
            is_key=rank < n_key,
        )
        for row, layer in enumerate(layers)
        for head in range(model.n_heads)
    )
    return KeyHeads(heads=heads, n=len(prompts))


def head_products(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector, layers: range
) -> Float[Tensor, "prompt layer head"]:
    """<z, ∂p/∂z> of each head in the injected run, all of them in one pass forward and back.

    Args:
        model: The model.
        prompts: Prompts with their answers.
        vector: The vector.
        layers: Blocks above it.
    """
    trunk = Trunk.build(model, prompts, positions=vector.positions)
    batch = trunk.batch()
    read: dict[int, Tensor] = {}
    edits = [replace(edit, value=edit.held.clone().requires_grad_()) for edit in vector.edits()]
    with torch.enable_grad(), ExitStack() as stack:
        for layer in layers:
            stack.enter_context(capture(model, layer, "z", partial(read.__setitem__, layer)))
        states = trunk.answer_states(trunk.run([edits], batch), batch)[:, 0]
        losses = token_losses(model.unembedding, model.final_state(states), batch.targets)
        mean = torch.zeros(batch.n_rows, device=losses.device)
        mean = mean.index_add(0, batch.read_rows, -losses * batch.weights)
        gradients = torch.autograd.grad(mean.exp().sum(), [read[layer] for layer in layers])
    products = losses.new_zeros(batch.n_rows, len(layers), model.n_heads)
    for number, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        product = (read[layer].detach().float() * gradient.float())[0]
        at_reads = batch.packing.pad(product, dim=0).flatten(0, 1)[batch.reads]
        by_head = rearrange(at_reads, "read (head d) -> read head d", head=model.n_heads).sum(-1)
        products[:, number].index_add_(0, batch.read_rows, by_head)
    return products.cpu()
