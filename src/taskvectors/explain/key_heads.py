"""Key heads: which heads a vector works through, by a first-order estimate of removing them.

A head's score is the mean over queries of |<z, ∂p/∂z>|, with the vector injected: z is the head's
output before W_O at the last prompt token, p the probability of the answer. The top tenth of the
heads above the vector are its key heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from taskvectors.explain.shared.analysis import VECTOR_LAYER, Analysis
from taskvectors.explain.shared.case import Case, blocks_with_heads, heads_above
from taskvectors.explain.shared.cost import Sizes
from taskvectors.explain.shared.head_removal import removal_effects
from taskvectors.format import percent
from taskvectors.models import Component, LanguageModel
from taskvectors.models.sites import width_of
from taskvectors.models.unembedding import token_losses
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.registry import ANALYSES
from taskvectors.results import Columns
from taskvectors.results.figures import Heatmap
from taskvectors.trunk import Edit, Trunk, prompts_that_fit, resolve_budget, shape_of
from taskvectors.trunk.edits import start_layer
from taskvectors.trunk.work import Work, work_of
from taskvectors.vectors import TaskVector

_ANSWERING = (-1, "answer")
"""Where the tokens of an answer are predicted."""
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
    without: tuple[int, ...] = ()
    """Blocks above the vector that have no heads, or none that can be read: a hybrid's others."""

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
            name="key-heads",
            title="Which heads the vector works through",
            x_label="Head",
            y_label="Layer",
            columns=tuple(map(str, columns)),
            rows=tuple(map(str, layers)),
            values=tuple(tuple(scores.get((at, head)) for head in columns) for at in layers),
            value_label="score, |z · ∂p/∂z|",
            limits=(0.0, max(scores.values()) or 1.0),
            marked=tuple(
                (layers.index(layer), columns.index(head)) for layer, head in sorted(self.key)
            ),
            mark_label=f"key heads, the top {SHARE:.0%}",
            caption=f"{self.n} training queries." + self._without(),
        )

    def _without(self) -> str:
        if not self.without:
            return ""
        layers = ", ".join(map(str, self.without))
        return f" Blocks without heads that can be read, and so not in it: {layers}."


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
        TaskVectorsError: No block lies above the vector, or none that has heads.

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
    places = [(layer, head) for layer in layers for head in range(model.heads(layer).n_heads)]
    total = torch.zeros(len(places))
    for start in range(0, len(prompts), step):
        total += head_products(model, prompts[start : start + step], vector, layers).abs().sum(0)
    scores = total / len(prompts)
    removed = removal_effects(model, prompts, vector.edits(), layers=layers, memory=memory).mean(0)
    order = scores.argsort(descending=True, stable=True).tolist()
    n_key = max(1, round(share * len(order)))
    ranks = {index: rank for rank, index in enumerate(order)}
    heads = tuple(
        Head(
            layer=layer,
            head=head,
            score=float(scores[index]),
            removed=float(removed[index]),
            rank=ranks[index],
            is_key=ranks[index] < n_key,
        )
        for index, (layer, head) in enumerate(places)
    )
    above = range(start_layer(vector.edits(), model.n_layers) + 1, model.n_layers)
    without = tuple(layer for layer in above if layer not in layers)
    return KeyHeads(heads=heads, n=len(prompts), without=without)


def head_products(
    model: LanguageModel, prompts: Sequence[Prompt], vector: TaskVector, layers: Sequence[int]
) -> Float[Tensor, "prompt head"]:
    """<z, ∂p/∂z> of each head in the injected run, all of them in one pass forward and back.

    Args:
        model: The model.
        prompts: Prompts with their answers.
        vector: The vector.
        layers: Blocks above it.

    Returns:
        Heads of the blocks side by side, in the order of `layers`.
    """
    trunk = Trunk.build(model, prompts, positions=vector.positions)
    batch = trunk.batch()
    at = trunk.columns(_ANSWERING)
    # what is added is nothing, and says what a change there would do
    nothing = [
        torch.zeros(*at.index.shape, width_of(model, layer, "z"), requires_grad=True)
        for layer in layers
    ]
    edits = [
        Edit(layer=layer, component="z", positions=_ANSWERING, value=value)
        for layer, value in zip(layers, nothing, strict=True)
    ]
    sites: list[tuple[int, Component]] = [(layer, "z") for layer in layers]
    with torch.enable_grad():
        run, read = trunk.run_and_read([[*vector.edits(), *edits]], sites, batch)
        states = trunk.answer_states(run, batch)[:, 0]
        losses = token_losses(model.unembedding, model.read_state(states), batch.targets)
        mean = torch.zeros(batch.n_rows, device=losses.device)
        mean = mean.index_add(0, batch.read_rows, -losses * batch.weights)
        gradients = torch.autograd.grad(mean.exp().sum(), nothing)
    products = []
    for site, gradient in zip(sites, gradients, strict=True):
        n_heads = model.heads(site[0]).n_heads
        z = read[site][:, 0].detach().float()
        there = z.gather(1, at.index.unsqueeze(-1).expand(-1, -1, z.shape[-1]))
        product = there.cpu() * gradient.float().cpu()  # of an absent position the gradient is 0
        products.append(reduce(product, "prompt pos (head d) -> prompt head", "sum", head=n_heads))
    return torch.cat(products, dim=1)


def key_heads_of(case: Case) -> KeyHeads:
    """The key heads of a case's vector, found once for all analyses."""
    return case.cached(
        "key heads",
        lambda: key_heads(
            case.model, case.prompts("train"), case.vector, memory=case.context.memory
        ),
    )


def _over_layers(rows: pd.DataFrame) -> Heatmap:
    """The share of scores by block, for vectors at several layers."""
    scores = rows.groupby([VECTOR_LAYER, "layer"])["score"].sum().unstack()  # [vector, block]
    shares = scores.div(scores.sum(axis=1), axis=0)
    key = rows[rows["is_key"].astype(bool)]
    places = sorted(set(zip(key[VECTOR_LAYER], key["layer"], strict=True)))
    vectors, blocks = list(shares.index), list(shares.columns)
    return Heatmap(
        name="key-heads",
        title="In which blocks the vector works through heads",
        x_label="Block of the heads",
        y_label="Layer of the vector",
        columns=tuple(map(str, blocks)),
        rows=tuple(map(str, vectors)),
        values=tuple(
            tuple(None if pd.isna(value) else float(value) for value in row)
            for row in shares.itertuples(index=False)
        ),
        value_label="share of all scores, |z · ∂p/∂z|",
        marked=tuple((vectors.index(at), blocks.index(block)) for at, block in places),
        mark_label="blocks with a key head",
        shares=True,
        caption="Scores of a block's heads added up, over those of all heads above the vector.",
    )


def _summary(rows: pd.DataFrame) -> str:
    key = rows[rows["is_key"].astype(bool)].sort_values("rank")
    names = [f"{row.layer:.0f}.{row.head:.0f}" for row in key.itertuples()]
    shown = ", ".join(names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"])
    total = rows["score"].sum()
    share = f"; {percent(key['score'].sum() / total)} of all scores" if total else ""
    return f"{len(key)} of {len(rows)} heads (layer.head): {shown}{share}"


def key_heads_works(sizes: Sizes) -> list[Work]:
    """The gradients, and each head taken out."""
    model, train = sizes.context.model, sizes.prompts("train")
    n_layers, layer = model.n_layers, sizes.layer
    removed = [
        block - 1
        for block in blocks_with_heads(model, range(layer + 1, n_layers))
        for _ in range(model.heads(block).n_heads)
    ]
    return [
        work_of(
            "gradients", train, (-1,), [layer], n_layers, is_training=True, keeps="results"
        ),
        work_of(
            "one by one", with_first_tokens(train), (-1,), [layer] * (1 + len(removed)), n_layers,
            keeps="results",
        ),
    ]  # fmt: skip


ANALYSES.register(
    Analysis(
        name="key-heads",
        title="Key heads",
        question="Which heads does the vector work through, and where are they?",
        citation="Yang et al. 2026, arXiv 2509.24169",
        find=key_heads_of,
        columns=Columns(
            keys=("layer", "head", "rank", "is_key"),
            measures={"score": None, "removed": None},
        ),
        works=key_heads_works,
        caption="A head's score is the mean over training queries of |z · ∂p/∂z| at the last "
        "token, with the vector injected. Key heads, framed, are the top tenth of the heads above "
        "the vector.",
        summary=_summary,
        over_layers=_over_layers,
        reads_shots=False,
    )
)
