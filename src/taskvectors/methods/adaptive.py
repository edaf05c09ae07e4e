"""`adaptive`: a vector per query and layer, by a trained linear map from an embedding of the query.

The embedding is the last block's state at the last token of the query's plain prompt, of the frozen
model itself or of another one, scaled to root mean square 1. Row l of the map gives what is added
after block l. Only the map is trained, on labels, through the trunk.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.descent import Batches
from taskvectors.methods.peak import PeakMemory
from taskvectors.methods.prepared import training_plan
from taskvectors.methods.run_context import Layers, RunContext, layer_groups, layer_name
from taskvectors.methods.training import residual_rms
from taskvectors.models import load_model
from taskvectors.progress import track
from taskvectors.prompts import Prompt
from taskvectors.trunk import Batch, Branch, Edit, Trunk
from taskvectors.vectors import Site


class Adaptive(BaseModel):
    """θ_l = s_l W_l e(query) added at the last token after every layer l, W trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["adaptive"] = "adaptive"
    layers: Layers = None
    """Layers that get a vector, together; all blocks by default."""
    embedder: str | None = None
    """Another model that embeds the queries, as `load_model` takes it; by default the model
    itself."""
    n_examples: int | None = Field(default=None, ge=1)
    """Training pairs to use; all by default."""
    steps: int = Field(default=200, ge=1)
    """Most gradient steps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Of AdamW, on W; it falls linearly to zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    check_every: int = Field(default=10, ge=1)
    """Steps between looks at the validation split."""
    patience: int | None = Field(default=5, ge=1)
    """Checks without improvement after which training stops; never if None."""


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
    with PeakMemory(context.model.device, context.trunks) as peak:
        run = _Run.prepare(context, config, blocks, embed)
        with torch.enable_grad():
            run.train()

    weights = run.kept  # alone: the run holds its trunks

    def edits(prompts: Sequence[Prompt]) -> Branch:
        return layer_edits(blocks, weights, embed(prompts))

    return [
        Candidate(
            method=config.kind,
            edits=edits,
            edited=tuple(Site(block, -1) for block in blocks),
            configuration="queries embedded by " + (config.embedder or "the model itself"),
            converged=run.is_done,
            curve=run.curve,
            cost=Cost(
                examples=run.trunk.n_prompts,
                steps=run.steps,
                seconds=context.trunks.clock() - started,
                seconds_per_step=run.seconds / run.steps,
                peak_bytes=peak.bytes,
                forward_tokens=run.tokens(),
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


@dataclass(kw_only=True, eq=False)
class _Run:
    """The training of one map."""

    config: Adaptive
    blocks: Sequence[int]
    trunk: Trunk
    validation: Trunk
    embedded: Float[Tensor, "prompt d_embedding"]
    embedded_validation: Float[Tensor, "other_prompt d_embedding"]
    scale: Float[Tensor, "layer 1 1"]
    """s_l, the residual stream's root mean square at each layer."""
    weights: Float[Tensor, "layer d_embedding d_model"]
    """W."""
    seed: int
    kept: Float[Tensor, "layer d_embedding d_model"]
    """s W at the best validation check."""
    best: tuple[float, float] = (-1.0, -torch.inf)
    steps: int = 0
    seconds: float = 0.0
    is_done: bool = False
    curve: list[Mapping[str, float]] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, context: RunContext, config: Adaptive, blocks: Sequence[int], embed: _Embedder
    ) -> "_Run":
        """Build the trunks, within the budget, and embed the queries."""
        model = context.model
        prompts = context.prompts("train")[: config.n_examples]
        validation = context.prompts("validation")
        step = training_plan(
            context, prompts, validation, (-1,), 1, config.batch_size
        ).rows_per_pass
        build = partial(context.trunks.build, model, rows_per_pass=step)
        trunk = build(prompts)
        scales = [residual_rms(trunk, Site(block, -1)) for block in blocks]
        embedded = embed(prompts)
        weights = torch.zeros(
            len(blocks), embedded.shape[1], model.d_model, device=model.device, requires_grad=True
        )
        return cls(
            config=config,
            blocks=blocks,
            trunk=trunk,
            validation=build(validation),
            embedded=embedded,
            embedded_validation=embed(validation),
            scale=torch.stack(scales).view(-1, 1, 1),
            weights=weights,
            seed=context.seed,
            kept=weights.detach(),
        )

    def train(self) -> None:
        """Steps and checks until validation no longer improves or the steps are used up."""
        from transformers import get_scheduler

        config, started, waited = self.config, time.perf_counter(), 0
        optimizer = torch.optim.AdamW(
            [self.weights], lr=config.learning_rate, weight_decay=config.weight_decay
        )
        scheduler = get_scheduler(
            "linear", optimizer, num_warmup_steps=0, num_training_steps=config.steps
        )
        batches = Batches(self.trunk, config.batch_size, self.seed)
        with track("adapting", config.steps) as progress:
            for step in range(1, config.steps + 1):
                self.steps = step
                optimizer.zero_grad()
                loss = self.loss(batches.draw())
                loss.backward()  # type: ignore[no-untyped-call]
                if step == 1:
                    self.check_gradient()
                optimizer.step()
                scheduler.step()
                if step % config.check_every == 0 or step == config.steps:
                    waited = 0 if self.check(float(loss.detach())) else waited + 1
                    self.is_done = config.patience is not None and waited >= config.patience
                    if self.is_done:
                        break
                progress.update()
        self.seconds = time.perf_counter() - started

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean negative log-probability of the answers of a batch."""
        # a batch's values are those of its prompts among all of the trunk
        rows = batch.rows
        assert rows is not None
        own = einsum(self.embedded[rows], self.weights, "row e, layer e d -> layer row d")
        every = own.new_zeros(len(self.blocks), self.trunk.n_prompts, own.shape[2])
        vectors = every.index_copy(1, rows, own * self.scale)
        states = self.trunk.run([_edits(self.blocks, vectors)], batch)
        return self.trunk.answer_losses(states, batch)[0]

    def check_gradient(self) -> None:
        """Edits that do not act leave a zero gradient, and a silent zero-shot baseline."""
        assert self.weights.grad is not None
        norm = float(self.weights.grad.norm())
        if not 0 < norm < float("inf"):
            raise TaskVectorsError(
                f"the gradient of the map is {norm} on the first step: nothing can be learned at "
                f"layers {', '.join(str(layer_name(block)) for block in self.blocks)}"
            )

    def check(self, loss: float) -> bool:
        """Score the map on validation and keep it if it is the best so far; whether it is."""
        weights = self.weights.detach() * self.scale
        batch = self.validation.batch()
        with torch.no_grad():
            branch = layer_edits(self.blocks, weights, self.embedded_validation)
            found = self.validation.answer_scores(self.validation.run([branch], batch), batch)
        lengths = found.present.sum(dim=1)
        accuracy = float(found.is_best.all(dim=2).double().mean())
        log_probability = float((found.log_probability.sum(dim=2)[:, 0] / lengths).mean())
        self.curve.append(
            {
                "step": self.steps,
                "loss": loss,
                "validation_accuracy": accuracy,
                "validation_logprob": log_probability,
            }
        )
        is_better = (accuracy, log_probability) > self.best
        if is_better:
            self.best, self.kept = (accuracy, log_probability), weights.clone()
        return is_better

    def tokens(self) -> int:
        """Forward tokens of the training, the trunks included."""
        branch = [layer_edits(self.blocks, self.kept, self.embedded)]
        plain = self.trunk.tokens_run(())
        per_prompt = (self.trunk.tokens_run(branch) - plain) / self.trunk.n_prompts
        batch = min(self.config.batch_size, self.trunk.n_prompts)
        prompts = self.steps * batch + len(self.curve) * self.validation.n_prompts
        return round(plain + self.validation.tokens_run(()) + per_prompt * prompts)
