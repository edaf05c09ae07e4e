"""Training vectors through the trunk: many at once, each with its own validation and its own best.

The prompts run once and leave their trunk; a step then costs the branches alone. Vectors that have
stopped improving leave the pass.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm.auto import tqdm

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.candidate import Cost
from taskvectors.methods.pace import roughly
from taskvectors.methods.peak import PeakMemory
from taskvectors.methods.workbench import Workbench, layer_name
from taskvectors.prompts import Prompt
from taskvectors.trunk import Batch, Branch, Edit, Position, Trunk, resolve_budget, shape_of
from taskvectors.trunk.graph import GraphedLosses
from taskvectors.trunk.memory import Kept, TrainingPlan, plan_training
from taskvectors.vectors import Site

_TIMED = 3
"""Steps after which it is said how long the others will take."""


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
    checks: Sequence[Batch]
    """The validation prompts, as many at once as fit."""
    vectors: list[_Vector]
    recipe: Recipe
    seed: int
    say: Callable[[str], None]
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
        model, positions = bench.model, _positions(vectors)
        plan = training_plan(bench, prompts, validation, positions, len(vectors), recipe.batch_size)
        trunk, checked = (
            Trunk.build(model, some, positions=positions, rows_per_pass=plan.rows_per_pass)
            for some in (prompts, validation)
        )
        sites = [site for vector in vectors for site in vector.sites]
        scale = torch.ones(len(sites), 1, device=model.device)
        if recipe.rate == "relative":
            scale = torch.stack([residual_rms(trunk, site) for site in sites]).unsqueeze(1)
        u = _initial(recipe, len(sites), model.d_model, bench.seed).to(model.device)
        return cls(
            trunk=trunk,
            validation=checked,
            checks=_in_pieces(checked, plan.rows_per_check),
            vectors=vectors,
            recipe=recipe,
            seed=bench.seed,
            say=bench.say,
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
        started = time.perf_counter()
        with tqdm(total=recipe.steps, desc="learning", unit="step", disable=None) as bar:
            for step in range(1, recipe.steps + 1):
                losses = losses_of(batches.draw(), active)
                if step == 1:
                    self.check_gradient()
                optimizer.step()
                scheduler.step()
                bar.update()
                if step == _TIMED:
                    self.tell_time((time.perf_counter() - started) / step)
                if step % recipe.check_every == 0 or step == recipe.steps:
                    self.check(active, losses, step)
                    active = [vector for vector in active if not vector.is_done]
                    bar.set_postfix(vectors=len(active), loss=f"{float(losses.mean()):.3f}")
                    if not active:
                        break

    def tell_time(self, seconds_per_step: float) -> None:
        """Say how long all steps take at most, as soon as a few have shown it."""
        left = self.recipe.steps - _TIMED
        if left > 0:
            self.say(
                f"At most {left} more steps of {seconds_per_step:.2g} s: "
                f"{roughly(seconds_per_step * left)} at most, checks on validation apart"
            )

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
        accuracy, log_probability = self.validated([vector.edits(theta) for vector in active])
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

    @torch.no_grad()
    def validated(self, branches: Sequence[Branch]) -> tuple[list[float], list[float]]:
        """Accuracy and mean log-probability of some branches on validation."""
        hits, log_probabilities = [], []
        for batch in self.checks:
            states = self.validation.run(branches, batch)
            found = self.validation.answer_scores(states, batch)
            hits.append(found.is_best.all(dim=2).double())
            lengths = found.present.sum(dim=1, keepdim=True)
            log_probabilities.append(found.log_probability.sum(dim=2) / lengths)
        accuracy = torch.cat(hits).mean(dim=0)
        return accuracy.tolist(), torch.cat(log_probabilities).mean(dim=0).tolist()

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


def _in_pieces(trunk: Trunk, size: int) -> list[Batch]:
    """All prompts of a trunk, so many at once."""
    n = trunk.n_prompts
    if size >= n:
        return [trunk.batch()]
    return [trunk.batch(range(start, min(start + size, n))) for start in range(0, n, size)]


def _positions(vectors: Sequence[_Vector]) -> tuple[Position, ...]:
    return tuple(dict.fromkeys(site.position for vector in vectors for site in vector.sites))


def _first_token(prompt: Prompt) -> Prompt:
    from dataclasses import replace

    return replace(prompt, answer_ids=prompt.answer_ids[:1])


def training_plan(
    bench: Workbench,
    prompts: Sequence[Prompt],
    validation: Sequence[Prompt],
    positions: tuple[Position, ...],
    n_vectors: int,
    batch_size: int,
) -> TrainingPlan:
    """How much at once, after checking that trunks and a step fit the budget."""

    def kept(some: Sequence[Prompt], *, is_training: bool) -> Kept:
        shape = shape_of(some, positions, n_branches=n_vectors, is_training=is_training)
        return Kept(shape=shape, n_prompts=len(some))

    return plan_training(
        bench.model,
        kept(prompts, is_training=True),
        kept(validation, is_training=False),
        batch_size=batch_size,
        budget=resolve_budget(bench.memory, bench.model.device),
    )
