"""Low-rank edits of the state at a site: what `loreft` and `lobireft` share.

LoReFT replaces what the state holds in an r-dimensional subspace by a linear function of the state,

    Φ(h) = h + Rᵀ(W h + b - R h),   R of r orthonormal rows;

LobiReFT is its constant relative, Φ(h) = h + Rᵀ b, a vector that lies in a trained subspace. R, W
and b are trained in the units of `learned`: h is taken over s, the root mean square of the residual
stream at the site, and a step of the optimiser moves the edit about as far as it moves a learned
vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from taskvectors.methods.shared.candidate import Cost
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.methods.shared.trained_sites import SiteTraining, trained_sites
from taskvectors.methods.training import (
    PeakMemory,
    TrainingTrunks,
    TrainState,
    TrunkTrainer,
    check_gradient,
    residual_rms,
)
from taskvectors.methods.training.recipe import RECIPES, Recipe
from taskvectors.methods.training.vectors import site_trunks
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch, Edit
from taskvectors.vectors import Site


class LowRankConfig(SiteTraining):
    """What both take."""

    rank: int = Field(default=4, ge=1)
    """Width of the subspace."""

    recipe: Recipe = RECIPES["from-zero"]
    """How it is trained; what is left out is as in `from-zero`."""

    @field_validator("recipe")
    @classmethod
    def _only_what_has_a_meaning(cls, given: Recipe) -> Recipe:
        plain = RECIPES["from-zero"]
        recipe = plain.model_copy(update={n: getattr(given, n) for n in given.model_fields_set})
        for name in ("rate", "initialisation", "scale", "penalty", "learn_strength"):
            if getattr(recipe, name) != getattr(plain, name):
                raise ValueError(f"{name} has no meaning for a low-rank edit; leave it out")
        return recipe


REFT = Paper(
    "Wu, Arora, Wang, Geiger, Jurafsky, Manning, Potts",
    2024,
    "ReFT: Representation Finetuning for Language Models",
    "https://arxiv.org/abs/2404.03592",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subspace:
    """The parameters of an edit at one site."""

    s: float
    """Root mean square of the residual stream there."""
    basis: Float[Tensor, "d_model rank"]
    """Free; R is the orthonormal factor of it."""
    target: Float[Tensor, "rank d_model"] | None
    """√d (W - R as it was at the start); None for a constant edit."""
    start: Float[Tensor, "rank d_model"]
    """R as it was at the start, not trained."""
    offset: Float[Tensor, " rank"]
    """b, over s and √(d / r)."""

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [self.basis, self.offset, *([] if self.target is None else [self.target])]

    def change(self, state: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Φ(h) - h."""
        rotation = orthonormal(self.basis).T
        rank, width = rotation.shape
        inside = self.offset * (width / rank) ** 0.5
        if self.target is not None:
            unit = state.float() / self.s
            weight = self.start + self.target / width**0.5
            inside = inside + unit @ (weight - rotation).T
        change: Tensor = self.s * (inside @ rotation)
        return change


def orthonormal(free: Float[Tensor, "d_model rank"]) -> Float[Tensor, "d_model rank"]:
    """The orthonormal columns that Gram-Schmidt makes of a matrix, whatever its size.

    `torch`'s orthogonal parametrisation with weight decay can let R collapse to zero; here decay
    changes the length of columns, which drops out.
    """
    q, r = torch.linalg.qr(free)
    oriented: Tensor = q * r.diagonal().sign()  # LAPACK's signs jump as entries pass zero
    return oriented


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    """An edit as it was at its best check."""

    edits: tuple[Edit, ...]

    def on(self, prompts: Sequence[Prompt]) -> tuple[Edit, ...]:
        """The same for all prompts: what differs is the state that they find."""
        del prompts
        return self.edits


@dataclass(kw_only=True, eq=False)
class _Edit(TrainState):
    """One edit in training."""

    sites: tuple[Site, ...]
    parts: list[Subspace]

    def edits(self) -> tuple[Edit, ...]:
        """As a branch makes them: a function of the state, or of nothing where it is constant."""
        made = []
        for site, part in zip(self.sites, self.parts, strict=True):
            is_constant = part.target is None
            value = part.change(part.start[:1] * 0) if is_constant else part.change
            made.append(Edit(layer=site.layer, positions=(site.position,), value=value))
        return tuple(made)


class _EditTrainer(TrunkTrainer[_Edit]):
    """A training run of edits side by side."""

    starts_plain = True

    def groups(self) -> list[dict[str, Any]]:
        parts = [part for state in self.states for part in state.parts]
        return [{"params": [value for part in parts for value in part.parameters]}]

    def branches(self, states: Sequence[_Edit]) -> list[Branch]:
        return [state.edits() for state in states]

    def values(self, state: _Edit) -> _Kept:
        frozen = [
            Subspace(
                s=part.s,
                basis=part.basis.detach().clone(),
                target=None if part.target is None else part.target.detach().clone(),
                start=part.start,
                offset=part.offset.detach().clone(),
            )
            for part in state.parts
        ]
        return _Kept(edits=_Edit(sites=state.sites, parts=frozen).edits())

    def check_gradient(self) -> None:
        for one in self.states:
            gradients = [part.offset.grad for part in one.parts]
            check_gradient(one.sites, torch.stack([g for g in gradients if g is not None]))


def train_edits(
    context: RunContext, config: LowRankConfig, *, is_constant: bool
) -> list[tuple[_Edit, Cost]]:
    """Each trained edit, and what it took."""
    sites = trained_sites(context, config)
    started = context.trunks.clock()
    with PeakMemory(context.model.device, context.trunks) as peak:
        trunks = site_trunks(context, sites, config.recipe, config.train_shots, config.n_examples)
        generator = torch.Generator().manual_seed(context.seed)
        edits = [
            _Edit(
                sites=group,
                parts=[_start(trunks, site, config.rank, generator, is_constant) for site in group],
            )
            for group in sites
        ]
        trainer = _EditTrainer(context, trunks, config.recipe, edits)
        trainer.train()
    seconds = context.trunks.clock() - started
    return [
        (
            edit,
            trainer.cost(
                edit,
                seconds=seconds,
                peak_bytes=peak.bytes,
                parameters=sum(v.numel() for part in edit.parts for v in part.parameters),
            ),
        )
        for edit in edits
    ]


def _start(
    trunks: TrainingTrunks, site: Site, rank: int, generator: torch.Generator, is_constant: bool
) -> Subspace:
    model = trunks.train.model
    free = torch.randn(model.d_model, rank, generator=generator).to(model.device)
    target = torch.zeros(rank, model.d_model, device=model.device).requires_grad_(True)
    return Subspace(
        s=float(residual_rms(trunks.train, site)),
        basis=free.requires_grad_(True),
        target=None if is_constant else target,
        start=orthonormal(free.detach()).T.contiguous(),
        offset=torch.zeros(rank, device=model.device).requires_grad_(True),
    )
