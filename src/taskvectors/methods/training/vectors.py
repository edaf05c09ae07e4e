"""Training vectors through the trunk: many at once, each with its own validation and its own best.

The prompts run once and leave their trunk; a step then costs the branches alone. Vectors that have
stopped improving leave the pass.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.candidate import Cost
from taskvectors.methods.shared.run_context import RunContext, Split
from taskvectors.methods.training.peak_memory import PeakMemory
from taskvectors.methods.training.recipe import Recipe
from taskvectors.methods.training.subspaces import Subspaces
from taskvectors.methods.training.teacher import Teacher
from taskvectors.methods.training.trainer import (
    FIRST_RENEWAL,
    LONGER,
    TrainState,
    TrunkTrainer,
    check_gradient,
)
from taskvectors.methods.training.trunks import TrainingTrunks, residual_rms
from taskvectors.prompts import Prompt, with_first_tokens
from taskvectors.trunk import Batch, Branch, Edit
from taskvectors.vectors import Site


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """One trained vector."""

    values: Float[Tensor, "site d_model"]
    """As it was at its best validation check, strength included."""
    scale: Sequence[float]
    """s of θ = s·u, site by site; 1 for an absolute learning rate."""
    strength: float
    """a of θ = s·a·u; 1 where it is not learned."""
    validation_accuracy: float
    converged: bool
    """Whether training stopped because validation no longer improved."""
    cost: Cost
    curve: Sequence[Mapping[str, float]]


@dataclass(kw_only=True, eq=False)
class _Vector(TrainState):
    """One vector in training; kept are its values and its strength."""

    sites: tuple[Site, ...]
    number: int
    """Which of the vectors it is."""
    offset: int
    """Where its sites begin among the parameters of all vectors."""

    @property
    def rows(self) -> slice:
        """Its own parameters."""
        return slice(self.offset, self.offset + len(self.sites))

    def edits(self, theta: Tensor) -> list[Edit]:
        return [
            Edit(
                layer=site.layer,
                component=site.component,
                positions=(site.position,),
                value=theta[self.offset + index],
            )
            for index, site in enumerate(self.sites)
        ]


def train_vectors(
    context: RunContext,
    groups: Sequence[tuple[Site, ...]],
    recipe: Recipe,
    shots: int = 0,
    n_examples: int | None = None,
    *,
    subspaces: Subspaces | None = None,
) -> list[Trained]:
    """Train one vector per group of sites, all in one pass per step.

    Args:
        context: Model and task.
        groups: The sites of each vector.
        recipe: How to train.
        shots: Demonstrations in the prompts.
        n_examples: Training pairs to use; all by default.
        subspaces: Where vectors of one site each are to lie; anywhere by default.

    Raises:
        TaskVectorsError: A vector's first gradient is zero or not finite, or the start is extracted
            without demonstrations.
        MemoryBudgetError: A step does not fit the budget.
    """
    vectors: list[_Vector] = []
    offset = 0
    for sites in groups:
        vectors.append(_Vector(sites=sites, number=len(vectors), offset=offset))
        offset += len(sites)
    with PeakMemory(context.model.device, context.trunks) as peak:
        started = context.trunks.clock()
        trunks = site_trunks(context, groups, recipe, shots, n_examples)
        effect = None
        if recipe.initialisation == "extracted":
            effect = _demonstrations_effect(context, n_examples)
        trainer = _VectorTrainer(context, trunks, vectors, recipe, effect, subspaces)
        trainer.train()
        seconds = context.trunks.clock() - started
    return [
        Trained(
            values=vector.kept[0],
            strength=vector.kept[1],
            scale=trainer.scale[vector.rows, 0].tolist(),
            validation_accuracy=vector.best[0],
            converged=vector.is_done,
            curve=vector.curve,
            cost=trainer.cost(
                vector,
                seconds=seconds,
                peak_bytes=peak.bytes,
                parameters=trainer.n_parameters(vector),
            ),
        )
        for vector in vectors
    ]


def _demonstrations_effect(
    context: RunContext, n_examples: int | None
) -> Float[Tensor, "layer d_model"]:
    if not context.shots:
        raise TaskVectorsError(
            "the extracted vector is what demonstrations change, and there are none (shots 0): "
            "give some, or start from zero (the recipe from-zero)"
        )
    return context.demonstrations_effect(n_examples)


def site_trunks(
    context: RunContext,
    groups: Sequence[tuple[Site, ...]],
    recipe: Recipe,
    shots: int,
    n_examples: int | None,
) -> TrainingTrunks:
    """The trunks that a recipe trains on, for branches at some sites.

    Args:
        context: Model and task.
        groups: The sites of each branch.
        recipe: How they will be trained.
        shots: Demonstrations in the prompts.
        n_examples: Training pairs to use; all by default.

    Raises:
        MemoryBudgetError: A step does not fit the budget.
    """

    def prompts(split: Split, shots: int) -> tuple[Prompt, ...]:
        chosen = context.prompts(split, shots)
        if split == "train":
            chosen = chosen[:n_examples]
            if recipe.answer == "first-token":
                chosen = with_first_tokens(chosen)
        return chosen

    train, teacher = prompts("train", shots), None
    if recipe.distillation:
        few_shot = prompts("train", context.shots)
        teacher = Teacher.of(context, train, few_shot, recipe.distillation)
    return TrainingTrunks.build(
        context,
        train,
        prompts("validation", shots),
        positions=tuple(dict.fromkeys(site.position for sites in groups for site in sites)),
        n_branches=len(groups),
        batch_size=recipe.batch_size,
        teacher=teacher,
    )


class _VectorTrainer(TrunkTrainer[_Vector]):
    """A training run: trunks, parameters, and the vectors that still improve."""

    def __init__(
        self,
        context: RunContext,
        trunks: TrainingTrunks,
        vectors: list[_Vector],
        recipe: Recipe,
        effect: Float[Tensor, "layer d_model"] | None,
        subspaces: Subspaces | None,
    ) -> None:
        super().__init__(context, trunks, recipe, vectors)
        self.subspaces = subspaces and subspaces.to(context.model.device)
        self.starts_plain = recipe.initialisation == "zero"
        if effect is not None:  # its first list has seen what steps from zero lead to
            self.first_renewal = FIRST_RENEWAL * LONGER
        device = context.model.device
        sites = [site for vector in vectors for site in vector.sites]
        self.scale = torch.ones(len(sites), 1, device=device)
        """s of θ = s·a·u."""
        if recipe.rate == "relative":
            rms = [residual_rms(trunks.train, site) for site in sites]
            self.scale = torch.stack(rms).unsqueeze(1)
        self.n_steps_added = max(map(_steps_added, vectors))
        """How many times as far as one site all sites of a vector move what is read after them."""
        if effect is None:
            u = _initial(recipe, len(sites), context.model.d_model, context.seed).to(device)
        else:
            extracted = effect[[site.layer + 1 for site in sites]].to(device)
            u = extracted / self.scale / self.n_steps_added
        self.u = u.requires_grad_(True)
        self.strength = torch.ones(len(vectors), device=device, requires_grad=True)
        """a, vector by vector."""
        self.owner = torch.tensor(
            [vector.number for vector in vectors for _ in vector.sites], device=device
        )

    @property
    def learning_rate(self) -> float:
        """A relative rate is shared by the sites of a vector, since what they do adds up."""
        rate = self.recipe.learning_rate
        return rate / self.n_steps_added if self.recipe.rate == "relative" else rate

    def groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [self.u]}]
        if self.recipe.learn_strength:  # decay would pull it to 0, not to 1
            groups.append({"params": [self.strength], "weight_decay": 0.0})
        return groups

    def n_parameters(self, vector: _Vector) -> int:
        """Numbers of a vector that are trained."""
        of_sites = len(vector.sites) * self.u.shape[1]
        if self.subspaces is not None:
            of_sites = self.subspaces.sizes[vector.number]
        return of_sites + self.recipe.learn_strength

    def theta(self) -> Tensor:
        """The vectors' values, site by site."""
        u = self.u if self.subspaces is None else self.subspaces.spanned(self.u)
        theta = self.scale * u
        if self.recipe.learn_strength:
            theta = theta * self.strength[self.owner].unsqueeze(1)
        return theta

    def branches(self, states: Sequence[_Vector]) -> list[Branch]:
        theta = self.theta()
        return [vector.edits(theta) for vector in states]

    def losses(self, batch: Batch, active: Sequence[_Vector]) -> Float[Tensor, " vector"]:
        """One loss per vector, with the recipe's penalty."""
        losses = super().losses(batch, active)
        if self.recipe.penalty == "none":
            return losses
        penalty = cosine_penalty if self.recipe.penalty == "orthogonality" else norm_penalty
        added = torch.stack([penalty(self.u[vector.rows]) for vector in active])
        return losses + self.recipe.penalty_weight * added

    def values(self, state: _Vector) -> tuple[Tensor, float]:
        theta = self.theta().detach()[state.rows]
        return theta.cpu().clone(), float(self.strength.detach()[state.number])

    def check_gradient(self) -> None:
        assert self.u.grad is not None
        for vector in self.states:
            check_gradient(vector.sites, self.u.grad[vector.rows])


def _steps_added(vector: _Vector) -> float:
    """Edits at one position add in its stream; those of several as independent ones do."""
    by_position = Counter(site.position for site in vector.sites)
    return max(by_position.values()) * math.sqrt(len(by_position))


def cosine_penalty(u: Float[Tensor, "site d_model"]) -> Float[Tensor, ""]:
    """Mean squared cosine between the parts of a vector at different sites; 0 for one site."""
    if len(u) == 1:
        return u.new_zeros(())
    unit = torch.nn.functional.normalize(u, dim=1, eps=1e-6)
    gram = unit @ unit.T
    off = gram.square().sum() - gram.diagonal().square().sum()
    penalty: Tensor = off / (len(u) * (len(u) - 1))
    return penalty


def norm_penalty(u: Float[Tensor, "site d_model"]) -> Float[Tensor, ""]:
    """Mean over sites of the root mean square of a vector's part: a group lasso over sites."""
    penalty: Tensor = torch.linalg.vector_norm(u, dim=1).mean() / u.shape[1] ** 0.5
    return penalty


def _initial(recipe: Recipe, n_sites: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if recipe.initialisation == "uniform":
        return (torch.rand(n_sites, width, generator=generator) * 2 - 1) * recipe.scale
    if recipe.initialisation == "normal":
        return torch.randn(n_sites, width, generator=generator) * recipe.scale
    return torch.zeros(n_sites, width)
