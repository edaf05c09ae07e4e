"""`adaptive`: a vector per query and layer, by a trained linear map from an embedding of the query.

The embedding is the last block's state at the last token of the query's plain prompt, of the frozen
model itself or of another one, scaled to root mean square 1. Row l of the map gives what is added
after block l. Only the map is trained, on labels, through the trunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.layers import Layers, layer_groups, layer_name
from taskvectors.methods.shared.method import METHODS, Method, Paper, never
from taskvectors.methods.shared.plan import Plan, read_work, training_work
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.methods.training import (
    PeakMemory,
    TrainingTrunks,
    TrainState,
    TrunkTrainer,
    residual_rms,
)
from taskvectors.methods.training.recipe import OwnTraining
from taskvectors.methods.training.trainer import check_norm
from taskvectors.models import load_model
from taskvectors.prompts import Prompt
from taskvectors.trunk import AnswerScores, Batch, Branch, Edit
from taskvectors.vectors import Site


class Adaptive(OwnTraining):
    """θ_l = s_l W_l e(query) added at the last token after every layer l, W trained."""

    kind: Literal["adaptive"] = "adaptive"
    layers: Layers = None
    """Layers that get a vector, together; all blocks by default."""
    embedder: str | None = None
    """Another model that embeds the queries, as `load_model` takes it; by default the model
    itself."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Of AdamW, on W; it falls linearly to zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""


def adaptive(context: RunContext, config: Adaptive) -> list[Candidate]:
    """One candidate: the map as it was at its best validation check.

    Raises:
        TaskVectorsError: The map's gradient is zero or not finite on the first step.
        MemoryBudgetError: A training step does not fit the budget.

    Source: Adaptive task vectors (2025), https://arxiv.org/abs/2506.03426, of which an account was
        read, not the code: a small language model's last-token state, one linear map to all
        layers, h + λ v at the last token, trained on labels. We differ: what embeds the query is
        frozen, and is the model itself unless another is named; the map starts at zero; θ is in
        units of the residual stream, and λ is 1.
    """
    started = context.trunks.clock()
    layers = tuple(range(context.model.n_layers)) if config.layers is None else config.layers
    (blocks,) = layer_groups(context.model, layers, each_layer=False)
    embed = _Embedder.of(context, config.embedder)
    state = TrainState()
    prompts, validation = (
        context.prompts("train")[: config.n_examples],
        context.prompts("validation"),
    )
    with PeakMemory(context.model.device, context.trunks) as peak:
        trunks = TrainingTrunks.build(context, prompts, validation, batch_size=config.batch_size)
        trainer = _MapTrainer(
            context, trunks, state, config, blocks, (embed(prompts), embed(validation))
        )
        trainer.train()
    weights = state.kept  # alone: the trainer holds its trunks

    def edits(prompts: Sequence[Prompt]) -> Branch:
        return layer_edits(blocks, weights, embed(prompts))

    return [
        Candidate(
            method=config.kind,
            edits=edits,
            edited=tuple(Site(block, -1) for block in blocks),
            configuration="queries embedded by " + (config.embedder or "the model itself"),
            converged=state.is_done,
            curve=state.curve,
            cost=trainer.cost(
                state,
                seconds=context.trunks.clock() - started,
                peak_bytes=peak.bytes,
                parameters=weights.numel(),
            ),
        )
    ]


def layer_edits(
    blocks: Sequence[int],
    weights: Float[Tensor, "layer d_embedding d_model"],
    embedded: Float[Tensor, "prompt d_embedding"],
) -> Branch:
    """W_l e added at the last token after each block, for each prompt its own."""
    vectors = einsum(
        embedded, weights, "prompt d_embedding, layer d_embedding d_model -> layer prompt d_model"
    )
    return _edits(blocks, vectors)


def _edits(blocks: Sequence[int], vectors: Float[Tensor, "layer prompt d_model"]) -> Branch:
    return tuple(
        Edit(layer=block, value=value.unsqueeze(1))
        for block, value in zip(blocks, vectors, strict=True)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Embedder:
    """From queries to embeddings."""

    context: RunContext
    """Of the model that embeds."""
    is_own: bool
    device: torch.device

    @classmethod
    def of(cls, context: RunContext, other: str | None) -> "_Embedder":
        embedding = context
        if other is not None:
            embedding = RunContext(
                model=load_model(other),
                task=context.task,
                template=context.template,
                seed=context.seed,
                memory=context.memory,
            )
        return cls(context=embedding, is_own=other is None, device=context.model.device)

    def __call__(self, prompts: Sequence[Prompt]) -> Float[Tensor, "prompt d_embedding"]:
        """The last block's state at the last token of the plain prompts, scaled to RMS 1."""
        queries = [prompt.query for prompt in prompts]
        asked = prompts if self.is_own else self.context.ask(queries, 0)
        states = self.context.states(asked)[-1].to(self.device)
        return states / states.square().mean(dim=1, keepdim=True).sqrt()


class _MapTrainer(TrunkTrainer[TrainState]):
    """The training of one map, W; kept is s W."""

    def __init__(
        self,
        context: RunContext,
        trunks: TrainingTrunks,
        state: TrainState,
        config: Adaptive,
        blocks: Sequence[int],
        embedded: tuple[Tensor, Tensor],
    ) -> None:
        # the rate is of W, which acts in units of s
        recipe = config.recipe(config.learning_rate, weight_decay=config.weight_decay)
        super().__init__(context, trunks, recipe, [state])
        self.blocks = blocks
        self.embedded, self.embedded_validation = embedded
        scales = [residual_rms(trunks.train, Site(block, -1)) for block in blocks]
        self.scale = torch.stack(scales).view(-1, 1, 1)
        """s_l, the residual stream's root mean square at each layer."""
        width, model = self.embedded.shape[1], context.model
        self.weights = torch.zeros(len(blocks), width, model.d_model, device=model.device)
        self.weights.requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weights]}]

    def branches(self, states: Sequence[TrainState]) -> list[Branch]:
        """The edits on all training prompts."""
        return [layer_edits(self.blocks, self.values(state), self.embedded) for state in states]

    def run(
        self, batch: Batch, active: Sequence[TrainState]
    ) -> Float[Tensor, "row 1 suffix d_model"]:
        """The states of the map's branch; only a batch's own vectors are computed."""
        del active
        rows = batch.rows
        assert rows is not None
        own = einsum(self.embedded[rows], self.weights, "row e, layer e d -> layer row d")
        # a batch's values are those of its prompts among all of the trunk
        every = own.new_zeros(len(self.blocks), self.trunks.train.n_prompts, own.shape[2])
        vectors = every.index_copy(1, rows, own * self.scale)
        return self.trunks.train.run([_edits(self.blocks, vectors)], batch)

    def scores(self, active: Sequence[TrainState]) -> list[AnswerScores]:
        return self.trunks.scores(
            [layer_edits(self.blocks, self.values(one), self.embedded_validation) for one in active]
        )

    def values(self, state: TrainState) -> Tensor:
        del state
        return self.weights.detach() * self.scale

    def check_gradient(self) -> None:
        layers = ", ".join(str(layer_name(block)) for block in self.blocks)
        check_norm(self.weights.grad, "of the map", f"at layers {layers}")


def _plan(context: RunContext, config: Adaptive) -> Plan:
    if config.embedder is not None:
        raise TaskVectorsError(
            f"there is no estimate of adaptive with the embedder {config.embedder}; leave it out, "
            "so that the model itself embeds the queries"
        )
    layers = (0,) if config.layers is None else config.layers
    (blocks,) = layer_groups(context.model, layers, each_layer=False)
    prompts = (context.prompts("train")[: config.n_examples], context.prompts("validation"))
    splits: tuple[Split, ...] = ("train", "validation", "test")
    reads = tuple(read_work(context, split, 0) for split in splits)
    steps = training_work(context, config, prompts, (-1,), (min(blocks),))
    return Plan(found=(*reads, *steps), joins=(min(blocks),))


METHODS.register(
    Method(
        config=Adaptive,
        find=adaptive,
        plan=_plan,
        title="Adaptive vectors",
        summary="a vector per query and layer by a trained linear map from the query's embedding",
        papers=(
            Paper(
                "Kang, Lee, Park, Park, Kim, Kim, Lee, Song",
                2025,
                "Adaptive Task Vectors for Large Language Models",
                "https://arxiv.org/abs/2506.03426",
            ),
        ),
        fails="It has d² numbers a layer and can learn the training pairs by heart; it cannot be "
        "saved as a vector, added to another, or injected into generation.",
        gives_vector=False,
        quick={"steps": 2, "batch_size": 4, "check_every": 1},
        reads_shots=never,
    )
)
