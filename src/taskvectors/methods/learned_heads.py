"""`learned-heads`: the mean results of all heads, each with a learned weight, added at every layer.

What is learned is one number per head, Φ. The vector at layer l is Σ_h Φ[l, h] · result[l, h], with
the mean results behind demonstrations; the vectors of all layers are added together.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.head_means import head_means
from taskvectors.methods.shared.indirect_effect import shuffled_labels
from taskvectors.methods.shared.layers import Positions
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan, read_work, training_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training import PeakMemory, TrainingTrunks, TrainState, TrunkTrainer
from taskvectors.methods.training.recipe import OwnTraining
from taskvectors.methods.training.trainer import check_norm
from taskvectors.trunk import Branch, Edit
from taskvectors.vectors import TaskVector, sites_at


class LearnedHeads(OwnTraining):
    """One learned weight per head, on the heads' mean results."""

    kind: Literal["learned-heads"] = "learned-heads"
    positions: Positions = (-1,)
    """Where the vectors of all layers are added; heads are always read at the last token."""
    trained_on: Literal["zero-shot", "shuffled-labels"] = "zero-shot"
    """Training prompts: without demonstrations, as it is used, or with shuffled labels."""
    n_prompts: int = Field(default=100, ge=1)
    """Most training prompts that the heads' means are over."""
    steps: int = Field(default=100, ge=1)
    """Most gradient steps."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Of Adam, on the weights."""
    start: float = Field(default=0.0, ge=0)
    """Standard deviation of the weights' normal start."""
    patience: int | None = Field(default=3, ge=1)
    """Checks without improvement after which training stops; never if None."""


def learned_heads(context: RunContext, config: LearnedHeads) -> list[Candidate]:
    """One candidate: the vectors of all layers together.

    Raises:
        TaskVectorsError: The first gradient is zero or not finite.

    Source: Saglam et al. (2025), https://arxiv.org/abs/2502.05390. We differ: the released code
        projects the mean of all heads with W_O and then scales slices of the d_model-wide result,
        which are not heads; here each head's own result is weighted, that is, its weight acts
        before W_O. The means are over fixed prompts, training is by default on prompts without
        demonstrations, and the weights of the best validation check are kept.
    """
    means = head_means(context, config.n_prompts)
    started = context.trunks.clock()
    prompts = context.prompts("train")[: config.n_examples]
    if config.trained_on == "shuffled-labels":
        prompts = shuffled_labels(context, [prompt.query for prompt in prompts])
    state = TrainState()
    with PeakMemory(context.model.device, context.trunks) as peak:
        trunks = TrainingTrunks.build(
            context,
            prompts,
            context.prompts("validation"),
            positions=config.positions,
            batch_size=config.batch_size,
        )
        trainer = _HeadsTrainer(context, trunks, state, means.results, config)
        trainer.train()
    cost = trainer.cost(
        state,
        seconds=means.seconds + context.trunks.clock() - started,
        peak_bytes=peak.bytes,
        parameters=state.kept.numel(),
    )
    cost = replace(
        cost,
        examples=len(context.task.train),  # the heads' means are over all of them
        forward_tokens=cost.forward_tokens + means.forward_tokens,
    )
    sites = sites_at(range(context.model.n_layers), config.positions)
    values = weighted_results(state.kept, means.results)[[site.layer for site in sites]]
    origin = context.origin(
        config.kind,
        shots=context.shots,
        settings=config.model_dump(exclude={"kind", "positions"})
        | {"weights": state.kept.tolist()},
        scores={"validation_accuracy": state.best[0]},
    )
    vector = TaskVector(values=values.cpu(), sites=sites, operation="add", origin=origin)
    return [
        Candidate(
            method=config.kind,
            vector=vector,
            configuration=f"all layers, trained on {config.trained_on} prompts",
            cost=cost,
            converged=state.is_done,
            curve=state.curve,
        )
    ]


def weighted_results(
    weights: Float[Tensor, "layer head"], results: Float[Tensor, "layer head d_model"]
) -> Float[Tensor, "layer d_model"]:
    """The vector of each layer."""
    return einsum(weights, results, "layer head, layer head d_model -> layer d_model")


class _HeadsTrainer(TrunkTrainer[TrainState]):
    """The training of one weight per head; kept are the weights."""

    def __init__(
        self,
        context: RunContext,
        trunks: TrainingTrunks,
        state: TrainState,
        results: Float[Tensor, "layer head d_model"],
        config: LearnedHeads,
    ) -> None:
        recipe = config.recipe(config.learning_rate, weight_decay=0.0, schedule="constant")
        super().__init__(context, trunks, recipe, [state])
        self.results, self.positions = results, config.positions
        generator = torch.Generator().manual_seed(context.seed)
        start = torch.randn(results.shape[:2], generator=generator) * config.start
        self.weights = start.to(results.device).requires_grad_(True)

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weights]}]

    def branches(self, states: Sequence[TrainState]) -> list[Branch]:
        del states  # there is one
        edits = [
            Edit(layer=layer, positions=(place,), value=value)
            for layer, value in enumerate(weighted_results(self.weights, self.results))
            for place in self.positions
        ]
        return [edits]

    def values(self, state: TrainState) -> Tensor:
        del state
        return self.weights.detach().clone()

    def check_gradient(self) -> None:
        check_norm(self.weights.grad, "of the heads' weights", "at these positions; choose others")


def _plan(context: RunContext, config: LearnedHeads) -> Plan:
    train = context.prompts("train")[: config.n_examples]
    if config.trained_on == "shuffled-labels":
        train = shuffled_labels(context, [prompt.query for prompt in train])
    prompts = (train, context.prompts("validation"))
    read = read_work(context, "train", context.shots, config.n_prompts)
    steps = training_work(context, config, prompts, config.positions, (0,))
    return Plan(found=(read, *steps), joins=(0,), positions=config.positions)


METHODS.register(
    Method(
        config=LearnedHeads,
        find=learned_heads,
        plan=_plan,
        title="Learned weights of heads",
        summary="mean results of all heads with one learned weight each, added at every layer",
        papers=(
            Paper(
                "Saglam, Hu, Yang, Kalogerias, Karbasi",
                2025,
                "Learning Task Representations from In-Context Learning",
                "https://arxiv.org/abs/2502.05390",
            ),
        ),
        fails="It can only weigh what heads give on average: what the demonstrations' heads do "
        "not write, no weight brings in.",
        quick={"steps": 2, "batch_size": 4, "check_every": 1, "n_prompts": 4},
    )
)
