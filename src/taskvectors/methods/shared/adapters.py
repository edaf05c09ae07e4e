"""Adapters: what a vector is compared with in size, cost and accuracy.

All are trained on the same pairs, with one budget of steps and one grid of learning rates, of
which the best on validation is kept. Each comes in two sizes: `matched` is the nearest to a vector
in numbers, `default` is the method's own. Runs are whole forward passes: an adapter acts from the
first layer or position on.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, never
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.training import PeakMemory, Recipe, Trainer, TrainState
from taskvectors.methods.training.recipe import OwnTraining
from taskvectors.methods.training.trunks import in_pieces
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapted, Adapter
from taskvectors.models.sites import check_site
from taskvectors.prompts import Prompt
from taskvectors.trunk import (
    AnswerScores,
    Batch,
    FullForward,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)
from taskvectors.trunk.full_forward import FIRST
from taskvectors.trunk.memory import readable, work_bytes
from taskvectors.trunk.work import Work, whole_passes

Size = Literal["matched", "default"]

_VIRTUAL_TOKENS = 20
"""From as many on Lester et al. saw little gain."""


class AdapterConfig(OwnTraining, ABC):
    """What all adapters share: one budget and one grid."""

    sizes: tuple[Size, ...] = Field(default=("matched", "default"), min_length=1)
    """`matched`: as near to a vector in numbers as it gets; `default`: the method's own size."""
    layer: int | None = Field(default=None, ge=0)
    """The block of a matched adapter that sits in one; the middle one by default."""
    learning_rates: tuple[float, ...] = Field(default=(0.001, 0.01, 0.1), min_length=1)
    """Rates of AdamW that are tried; the best on validation is kept, and all are in the cost."""

    @abstractmethod
    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """The untrained adapter of a size."""

    @abstractmethod
    def describe(self, size: Size, layer: int) -> str:
        """A size in words."""

    def n_tokens(self, size: Size) -> int:
        """Tokens that an adapter of a size has run before each prompt."""
        del size
        return 0

    def layers(self, model: LanguageModel, size: Size) -> list[int]:
        """The blocks that an adapter of a size sits in."""
        if size == "default":
            return list(range(model.n_layers))
        return [self.block(model)]

    def block(self, model: LanguageModel) -> int:
        """The block of a matched adapter that sits in one."""
        layer = model.n_layers // 2 if self.layer is None else self.layer
        check_site(model, layer, "resid_pre")
        return layer


class VirtualTokens(AdapterConfig):
    """What is trained are tokens before the prompt: one, the least there is, or 20."""

    def n_virtual(self, size: Size) -> int:
        """How many."""
        return 1 if size == "matched" else _VIRTUAL_TOKENS

    def describe(self, size: Size, layer: int) -> str:
        """Tokens."""
        del layer
        return "1 token" if size == "matched" else f"{_VIRTUAL_TOKENS} tokens"


def adapters(context: RunContext, config: AdapterConfig) -> list[Candidate]:
    """One candidate per size: the best of the learning rates on validation.

    Its cost is that of all rates, seconds per step and peak memory apart.

    Raises:
        TaskVectorsError: peft is not installed; the model has nothing of the kind; no learning rate
            gives finite losses.
        MemoryBudgetError: A training step does not fit the budget.
    """
    return [_best_rate(context, config, size) for size in config.sizes]


def register_adapter(**about: Any) -> None:
    """Register the row of an adapter: what all of them have, and what a method's row says.

    Args:
        about: Further fields of `Method`.
    """
    few = {"steps": 1, "batch_size": 4, "check_every": 1, "learning_rates": (0.01,)}
    shared: dict[str, Any] = {"gives_vector": False, "reads_shots": never, "quick": few}
    METHODS.register(Method(plan=plan_of_adapter, **shared, **about))


def _best_rate(context: RunContext, config: AdapterConfig, size: Size) -> Candidate:
    adapter = config.build(context.model, size, context.seed)
    where = config.describe(size, config.block(context.model))
    tried = [
        train_adapter(context, adapter, config.recipe(rate), config.n_examples)
        for rate in config.learning_rates
    ]
    found = [index for index, one in enumerate(tried) if one is not None]
    if not found:
        raise TaskVectorsError(
            f"{where}: no learning rate of {', '.join(map(str, config.learning_rates))} gives "
            "finite losses; give lower ones"
        )
    best = max(found, key=lambda index: (_merit(tried[index]), -index))
    chosen = tried[best]
    assert chosen is not None
    costs = [one.cost for one in tried if one is not None]
    cost = replace(
        chosen.cost,
        steps=sum(one.steps for one in costs),
        seconds=sum(one.seconds for one in costs),
        forward_tokens=sum(one.forward_tokens for one in costs),
    )
    rate = config.learning_rates[best]
    return replace(chosen, method=_kind(config), configuration=f"{where}, rate {rate:g}", cost=cost)


def plan_of_adapter(context: RunContext, config: AdapterConfig) -> Plan:
    """What all sizes and rates run; steps go backward through all blocks."""
    found: list[Work] = []
    train, validation = context.prompts("train")[: config.n_examples], context.prompts("validation")
    n_layers, n_rates = context.model.n_layers, len(config.learning_rates)
    for size in config.sizes:
        config.build(context.model, size, context.seed)  # says where it has no meaning
        n_before = config.n_tokens(size)
        found += [
            whole_passes(
                f"steps, {size}", train, n_layers, n_passes=n_rates * config.steps,
                batch=config.batch_size, is_training=True, n_before=n_before,
            ),
            whole_passes(
                f"checks, {size}", validation, n_layers, n_passes=n_rates * config.n_checks,
                n_before=n_before,
            ),
        ]  # fmt: skip
    return Plan(found=tuple(found), joins=(-1,) * len(config.sizes), is_whole=True)


def train_adapter(
    context: RunContext, adapter: Adapter, recipe: Recipe, n_examples: int | None = None
) -> Candidate | None:
    """An adapter trained with one recipe; None where its losses are not finite from the start.

    Raises:
        MemoryBudgetError: A step does not fit the budget.
    """
    model, started = context.model, time.perf_counter()
    prompts = context.prompts("train")[:n_examples]
    validation = context.prompts("validation")
    n_checked = _check_budget(context, prompts, validation, recipe)
    with PeakMemory(model.device) as peak, adapter.on(model) as adapted:
        one = TrainState()
        run = _Run(context, FullForward.of(model, prompts, adapted.forward), recipe, [one])
        run.adapted = adapted
        run.validation = FullForward.of(model, validation, adapted.forward)
        run.n_checked = n_checked
        run.train()
        n_parameters = adapted.n_parameters
    if not math.isfinite(one.best[1]):
        return None
    batch = min(recipe.batch_size, len(prompts))
    tokens = run.passes.n_tokens / len(prompts) * batch * one.steps
    return Candidate(
        method="adapter",
        adapter=adapter.with_weights(one.kept),
        converged=one.is_done,
        curve=one.curve,
        cost=Cost(
            examples=len(prompts),
            steps=one.steps,
            seconds=time.perf_counter() - started,
            seconds_per_step=run.seconds / one.steps,
            peak_bytes=peak.bytes,
            forward_tokens=round(tokens + len(one.curve) * run.validation.n_tokens),
            parameters=n_parameters,
        ),
    )


class _Run(Trainer[TrainState]):
    """One adapter in training."""

    passes: FullForward
    adapted: Adapted
    validation: FullForward
    n_checked: int
    """Validation prompts per pass."""

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.adapted.parameters.values())}]

    def run(
        self, batch: Batch, active: Sequence[TrainState]
    ) -> Float[Tensor, "row 1 suffix d_model"]:
        """The adapted model's states."""
        del active
        return self.passes.run(batch)

    def scores(self, active: Sequence[TrainState]) -> list[AnswerScores]:
        del active
        pieces = in_pieces(self.validation, self.n_checked)
        return [self.validation.scores(piece) for piece in pieces]

    def values(self, state: TrainState) -> dict[str, Tensor]:
        del state
        return self.adapted.weights()

    def check_gradient(self) -> None:
        """Some number must have a gradient: LoRA starts with half of its numbers at zero."""
        gradients = [value.grad for value in self.adapted.parameters.values()]
        if not any(gradient is not None and bool(gradient.any()) for gradient in gradients):
            raise TaskVectorsError(
                "the adapter does not act: all gradients of its first step are 0"
            )


def _check_budget(
    context: RunContext, prompts: Sequence[Prompt], validation: Sequence[Prompt], recipe: Recipe
) -> int:
    """Validation prompts per pass, after checking that a step fits the budget."""
    model = context.model
    budget = resolve_budget(context.memory, model.device)
    batch = min(recipe.batch_size, len(prompts))
    needed = work_bytes(model, shape_of(prompts, FIRST, n_branches=1, is_training=True)) * batch
    if needed > budget:
        raise MemoryBudgetError(
            f"training an adapter on {batch} whole prompts a step needs about {readable(needed)}, "
            f"and {readable(budget)} are granted. Use a smaller batch, or grant more --memory."
        )
    return prompts_that_fit(model, shape_of(validation, FIRST, n_branches=1), budget)


def _merit(one: Candidate | None) -> tuple[float, float]:
    assert one is not None
    return max((p["validation_accuracy"], p["validation_logprob"]) for p in one.curve)


def _kind(config: AdapterConfig) -> str:
    return str(config.kind)  # type: ignore[attr-defined]
