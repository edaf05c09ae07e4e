"""Training vectors through the trunk: many at once, each with its own validation and its own best.

The prompts run once and leave their trunk; a step then costs the branches alone. Vectors that have
stopped improving leave the pass.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm.auto import tqdm

from taskvectors.errors import MemoryBudgetError, TaskVectorsError
from taskvectors.methods.candidate import Cost
from taskvectors.methods.peak import PeakMemory
from taskvectors.methods.workbench import Workbench, layer_name
from taskvectors.prompts import Prompt
from taskvectors.trunk import (
    Batch,
    Edit,
    Trunk,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)
from taskvectors.trunk.graph import GraphedLosses
from taskvectors.trunk.memory import readable, trunk_bytes, work_bytes
from taskvectors.vectors import Site


class Recipe(BaseModel):
    """Everything about the training but the sites."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    steps: int = Field(default=200, ge=1)
    """Most gradient steps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per step."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Of AdamW; in units of the residual stream's root mean square if `rate` is relative."""
    rate: Literal["relative", "absolute"] = "relative"
    """Whether the learning rate, decay and initialisation act on θ / s or on θ."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls."""
    schedule_steps: int | None = Field(default=None, ge=1)
    """Steps over which it falls to zero; `steps` by default."""
    initialisation: Literal["zero", "uniform", "normal"] = "zero"
    """Where the vector starts."""
    scale: float = Field(default=0.1, ge=0)
    """Half-width of a uniform start, standard deviation of a normal one."""
    answer: Literal["all-tokens", "first-token"] = "all-tokens"
    """Which tokens of the answer the loss averages over."""
    check_every: int = Field(default=10, ge=1)
    """Steps between looks at the validation split."""
    patience: int | None = Field(default=5, ge=1)
    """Checks without improvement after which training stops; never by default if None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """One trained vector."""

    values: Float[Tensor, "site d_model"]
    """As it was at its best validation check."""
    scale: Sequence[float]
    """s of θ = s·u, site by site; 1 for an absolute learning rate."""
    validation_accuracy: float
    converged: bool
    """Whether training stopped because validation no longer improved."""
    cost: Cost
    curve: Sequence[Mapping[str, float]]


@dataclass(kw_only=True, eq=False)
class _Vector:
    """One vector in training."""

    sites: tuple[Site, ...]
    offset: int
    """Where its sites begin among the parameters of all vectors."""
    best: tuple[float, float] = (-1.0, -torch.inf)
    """Validation accuracy, then log-probability, at the best check."""
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    checks_since_best: int = 0
    steps: int = 0
    is_done: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)

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
    bench: Workbench,
    groups: Sequence[tuple[Site, ...]],
    recipe: Recipe,
    shots: int = 0,
    n_examples: int | None = None,
) -> list[Trained]:
    """Train one vector per group of sites, all in one pass per step.

    Args:
        bench: Model and task.
        groups: The sites of each vector.
        recipe: How to train.
        shots: Demonstrations in the prompts.
        n_examples: Training pairs to use; all by default.

    Raises:
        TaskVectorsError: A vector's first gradient is zero or not finite.
        MemoryBudgetError: A step does not fit the budget.
    """
    vectors, offset = [], 0
    for sites in groups:
        vectors.append(_Vector(sites=sites, offset=offset))
        offset += len(sites)
    with PeakMemory(bench.model.device) as peak:
        run = _Run.prepare(bench, vectors, recipe, shots, n_examples)
        started = time.perf_counter()
        with torch.enable_grad():
            run.train()
        seconds = time.perf_counter() - started
    steps = max(vector.steps for vector in vectors)
    return [
        Trained(
            values=vector.values,
            scale=run.scale[vector.offset : vector.offset + len(vector.sites), 0].tolist(),
            validation_accuracy=vector.best[0],
            converged=vector.is_done,
            curve=vector.curve,
            cost=Cost(
                examples=run.trunk.n_prompts,
                steps=vector.steps,
                # vectors trained side by side share each step's time
                seconds=(run.seconds_before + seconds) / len(vectors),
                seconds_per_step=seconds / steps / len(vectors),
                peak_bytes=peak.bytes,
                forward_tokens=run.tokens(vector),
                parameters=len(vector.sites) * bench.model.d_model,
            ),
        )
        for vector in vectors
    ]


@dataclass(kw_only=True, eq=False)
class _Run:
    """A training run: trunks, parameters, and the vectors that still improve."""

    trunk: Trunk
    validation: Trunk
    vectors: list[_Vector]
    recipe: Recipe
    seed: int
    scale: Float[Tensor, "site 1"]
    """s of θ = s·u."""
    u: Float[Tensor, "site d_model"]
    seconds_before: float

    @classmethod
    def prepare(
        cls,
        bench: Workbench,
        vectors: list[_Vector],
        recipe: Recipe,
        shots: int,
        n_examples: int | None,
    ) -> "_Run":
        """Build the trunks, within the budget, and initialise the parameters."""
        started = time.perf_counter()
        prompts = bench.prompts("train", shots)[:n_examples]
        validation = bench.prompts("validation", shots)
        if recipe.answer == "first-token":
            prompts = tuple(_first_token(prompt) for prompt in prompts)
        positions = tuple(dict.fromkeys(site.position for v in vectors for site in v.sites))
        step = check_budget(bench, prompts, positions, len(vectors), recipe)
        model = bench.model
        trunk = Trunk.build(model, prompts, positions=positions, rows_per_pass=step)
        checked = Trunk.build(model, validation, positions=positions, rows_per_pass=step)
        sites = [site for vector in vectors for site in vector.sites]
        scale = torch.ones(len(sites), 1, device=model.device)
        if recipe.rate == "relative":
            scale = torch.stack([residual_rms(trunk, site) for site in sites]).unsqueeze(1)
        u = _initial(recipe, len(sites), model.d_model, bench.seed).to(model.device)
        return cls(
            trunk=trunk,
            validation=checked,
            vectors=vectors,
            recipe=recipe,
            seed=bench.seed,
            scale=scale,
            u=u.requires_grad_(True),
            seconds_before=time.perf_counter() - started,
        )

    def theta(self) -> Tensor:
        """The vectors' values, site by site."""
        return self.scale * self.u

    def train(self) -> None:
        """Steps and checks until all vectors are done or the steps are used up."""
        from transformers import get_scheduler

        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            [self.u], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        scheduler = get_scheduler(
            recipe.schedule,
            optimizer,
            num_warmup_steps=0,
            num_training_steps=recipe.schedule_steps or recipe.steps,
        )
        batches = Batches(self.trunk, recipe.batch_size, self.seed)
        losses_of = GraphedLosses(self.losses, [self.u], self.trunk.model.device)
        active = list(self.vectors)
        with tqdm(total=recipe.steps, desc="learning", unit="step", disable=None) as bar:
            for step in range(1, recipe.steps + 1):
                losses = losses_of(batches.draw(), active)
                if step == 1:
                    self.check_gradient()
                optimizer.step()
                scheduler.step()
                bar.update()
                if step % recipe.check_every == 0 or step == recipe.steps:
                    self.check(active, losses, step)
                    active = [vector for vector in active if not vector.is_done]
                    bar.set_postfix(vectors=len(active), loss=f"{float(losses.mean()):.3f}")
                    if not active:
                        break

    def losses(self, batch: Batch, active: Sequence[_Vector]) -> Float[Tensor, " vector"]:
        """One loss per vector; each depends on its own sites only."""
        theta = self.theta()
        states = self.trunk.run([vector.edits(theta) for vector in active], batch)
        return self.trunk.answer_losses(states, batch)

    def check_gradient(self) -> None:
        """A hook that does not act leaves a zero gradient, and a silent zero-shot baseline."""
        assert self.u.grad is not None
        for vector in self.vectors:
            part = self.u.grad[vector.offset : vector.offset + len(vector.sites)]
            for site, norm in zip(vector.sites, part.norm(dim=1).tolist(), strict=True):
                if not 0 < norm < float("inf"):
                    raise TaskVectorsError(
                        f"the gradient at layer {layer_name(site.layer)}, position "
                        f"{site.position} is "
                        f"{norm} on the first step: nothing can be learned there. A position "
                        "that no answer token can see has none; choose another site."
                    )

    def check(self, active: Sequence[_Vector], losses: Tensor, step: int) -> None:
        """Score the active vectors on validation, keep each one's best, and retire who is done."""
        theta = self.theta().detach()
        batch = self.validation.batch()
        with torch.no_grad():
            states = self.validation.run([vector.edits(theta) for vector in active], batch)
            found = self.validation.answer_scores(states, batch)
        accuracy = found.is_best.all(dim=2).double().mean(dim=0).tolist()
        lengths = found.present.sum(dim=1, keepdim=True)
        log_probability = (found.log_probability.sum(dim=2) / lengths).mean(dim=0).tolist()
        for index, vector in enumerate(active):
            reached = (accuracy[index], log_probability[index])
            vector.steps = step
            vector.checks_since_best += 1
            if reached > vector.best:
                vector.best, vector.checks_since_best = reached, 0
                stop = vector.offset + len(vector.sites)
                vector.values = theta[vector.offset : stop].cpu().clone()
            vector.curve.append(
                {
                    "step": step,
                    "loss": float(losses[index]),
                    "validation_accuracy": reached[0],
                    "validation_logprob": reached[1],
                }
            )
            patience = self.recipe.patience
            vector.is_done = patience is not None and vector.checks_since_best >= patience

    def tokens(self, vector: _Vector) -> int:
        """Forward tokens of one vector's training, its share of the trunks included."""
        branch = [vector.edits(self.theta().detach())]
        plain = self.trunk.tokens_run(()) + self.validation.tokens_run(())
        per_prompt = (
            self.trunk.tokens_run(branch) - self.trunk.tokens_run(())
        ) / self.trunk.n_prompts
        batch = min(self.recipe.batch_size, self.trunk.n_prompts)
        checks = len(vector.curve) * self.validation.n_prompts
        return round(plain / len(self.vectors) + per_prompt * (vector.steps * batch + checks))


@dataclass(kw_only=False, eq=False)
class Batches:
    """Mini-batches without replacement, drawn anew each time all prompts were seen."""

    trunk: Trunk
    size: int
    seed: int
    _left: list[int] = field(default_factory=list)
    _generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self.size = min(self.size, self.trunk.n_prompts)
        lengths = sorted(map(len, self.trunk.cut.answers), reverse=True)
        self._n_reads = sum(lengths[: self.size])

    def draw(self) -> Batch:
        """The next one; of constant shape on a GPU, where the step is a graph."""
        if len(self._left) < self.size:
            self._left = torch.randperm(self.trunk.n_prompts, generator=self._generator).tolist()
        rows, self._left = self._left[: self.size], self._left[self.size :]
        is_static = self.trunk.model.device.type == "cuda"
        return self.trunk.batch(rows, n_reads=self._n_reads if is_static else None)


def residual_rms(trunk: Trunk, site: Site) -> Float[Tensor, ""]:
    """S of θ = s·u: the median norm of the residual stream at a site, over √d_model."""
    states = trunk.states(site.layer, (site.position,)).float()
    norms = states.norm(dim=-1)
    present = trunk.columns((site.position,)).present  # a name can mean several tokens
    rms: Tensor = (norms if present is None else norms[present]).median() / states.shape[-1] ** 0.5
    return rms


def _initial(recipe: Recipe, n_sites: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if recipe.initialisation == "uniform":
        return (torch.rand(n_sites, width, generator=generator) * 2 - 1) * recipe.scale
    if recipe.initialisation == "normal":
        return torch.randn(n_sites, width, generator=generator) * recipe.scale
    return torch.zeros(n_sites, width)


def _first_token(prompt: Prompt) -> Prompt:
    from dataclasses import replace

    return replace(prompt, answer_ids=prompt.answer_ids[:1])


def check_budget(
    bench: Workbench,
    prompts: Sequence[Prompt],
    positions: tuple[int | str, ...],
    n_vectors: int,
    recipe: Recipe,
) -> int:
    """Prompts per plain pass, after checking that trunk and step fit the budget."""
    model = bench.model
    budget = resolve_budget(bench.memory, model.device)
    shape = shape_of(prompts, positions, n_branches=n_vectors, is_training=True)
    held = trunk_bytes(model, shape) * len(prompts)
    batch = min(recipe.batch_size, len(prompts))
    step = work_bytes(model, shape) * batch
    if held + step > budget:
        raise MemoryBudgetError(
            f"learning {n_vectors} vectors on {len(prompts)} prompts of "
            f"{shape.prefix + shape.suffix} "
            f"tokens needs about {readable(held + step)} ({readable(held)} for the trunk, "
            f"{readable(step)} for a step of {batch}), and {readable(budget)} are granted. Use "
            "fewer "
            "layers at once, a smaller batch, fewer training pairs or shots, or grant more "
            "--memory."
        )
    plain = shape_of(prompts, positions, n_branches=0)
    return prompts_that_fit(model, plain, budget - held)
