"""Regression families y = w·φ(x): their rows, shifts and closed-form predictors.

A real-valued sequence is written in coordinates: d for the input, one for the output, one each for
the separator and the delimiter. The learner's embedding has a row per coordinate, so the separator
is one learned vector, and an input is the mixture of d of them. Families differ in φ alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.config import Curriculum, TrainingConfig, VariantsConfig
from taskvectors.learners.family import HELD_OUT, Batch, CurriculumStage, EvalBatch, Split
from taskvectors.learners.pairs import (
    Format,
    Question,
    columns_of,
    pair_batch,
    pair_eval_batch,
    shown_demonstrations,
)
from taskvectors.learners.shape import LearnerShape
from taskvectors.methods import Paper
from taskvectors.results.learners import IN_DISTRIBUTION

GARG = Paper(
    "Garg, Tsipras, Liang, Valiant",
    2022,
    "What Can Transformers Learn In-Context? A Case Study of Simple Function Classes",
    "https://arxiv.org/abs/2208.01066",
)

SCALES: dict[str, float] = {"third": 1 / 3, "half": 1 / 2, "double": 2.0, "triple": 3.0}
SHIFTS: tuple[str, ...] = (
    IN_DISTRIBUTION,
    "skewed",
    "half-subspace",
    "orthants",
    *(f"x-{scale}" for scale in SCALES),
    *(f"y-{scale}" for scale in SCALES),
    "label-noise",
    "query-shown",
)
ORTHOGONAL = "query-orthogonal"
"""Meaningful where y is linear in x itself."""


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Which coordinate of a row means what; `PairRows` of real-valued pairs."""

    n_dims: int

    @property
    def n(self) -> int:
        """Coordinates of a row."""
        return self.n_dims + 3

    def input_rows(self, x: Float[Tensor, "batch n d"]) -> Float[Tensor, "batch n width"]:
        """Inputs fill the first coordinates."""
        return torch.nn.functional.pad(x, (0, 3))

    def output_rows(self, y: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n width"]:
        """The output has the next one."""
        return torch.nn.functional.pad(y.unsqueeze(-1), (self.n_dims, 2))

    def marker_row(self, marker: Literal["z", "d"], like: Tensor) -> Float[Tensor, " width"]:
        """Separator and delimiter have one each."""
        row = torch.zeros(self.n, device=like.device, dtype=like.dtype)
        row[self.n_dims + (1 if marker == "z" else 2)] = 1
        return row

    def prediction(self, logits: Float[Tensor, "*reads width"]) -> Float[Tensor, "*reads"]:
        """What the model says the output is."""
        return logits[..., self.n_dims]


class Regression(BaseModel, ABC):
    """y = w·φ(x) with w, x ~ N(0, I), without noise.

    A family of regression says its `kind`, φ, the variance of y, its shifts, and what is near its
    optimum; the rest is here.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066: generator and curriculum, which
        sets the trailing dimensions of x to 0. We differ: separate coordinates for x and y.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    n_dims: int = Field(default=5, ge=2)
    """d, the dimensions of x."""
    n_demonstrations: int = Field(default=11, ge=1)
    """Pairs before the last prediction of a sequence."""
    format: Format = "xzy"
    """How pairs are written."""
    n_train_tasks: int | None = Field(default=None, ge=1)
    """Different w that are trained on; by default a fresh one for every sequence."""
    task_seed: int = 0
    """Which w those are."""

    @cached_property
    def _trained_tasks(self) -> Float[Tensor, "n_train_tasks d"]:
        """The w that are trained on, where they are few."""
        generator = torch.Generator().manual_seed(self.task_seed)
        return torch.randn(self.n_train_tasks or 0, self.n_dims, generator=generator)

    @abstractmethod
    def features(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """φ."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """Of y."""

    @property
    def shifts(self) -> tuple[str, ...]:
        """All shifts of regression, and w that were never trained on where there are such."""
        return SHIFTS if self.n_train_tasks is None else (*SHIFTS, HELD_OUT)

    @property
    def d_vocab(self) -> int:
        """Coordinates of a row."""
        return self._coordinates.n

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of a sequence."""
        return columns_of(self.format, n_demonstrations)

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Float[Tensor, "batch d"]:
        """Weights: those trained on with equal chances where they are few, and fresh ones else."""
        if self.n_train_tasks is None or split == "test":
            return torch.randn(n, self.n_dims, generator=generator, device=generator.device)
        picked = torch.randint(
            self.n_train_tasks, (n,), generator=generator, device=generator.device
        )
        return self._trained_tasks.to(generator.device)[picked]

    def batch(
        self, tasks: Float[Tensor, "batch d"], generator: torch.Generator, stage: CurriculumStage
    ) -> Batch:
        """Training sequences."""
        n = shown_demonstrations(stage, self.n_demonstrations)
        x = torch.randn(len(tasks), n + 2, self.n_dims, generator=generator, device=tasks.device)
        if stage.n_dims is not None:
            x[..., stage.n_dims :] = 0
        return pair_batch(self._coordinates, self.format, x, self._outputs(x, tasks))

    def eval_batch(
        self,
        tasks: Float[Tensor, "batch d"],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,
    ) -> EvalBatch:
        """A question for each w, drawn under a shift.

        Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066, the shifts of the released
            code's `eval.py`. We differ: a basis for each prompt, and no label noise in the query's
            answer.
        """
        batch, d = tasks.shape
        n = min(n_demonstrations, d - 1) if shift == ORTHOGONAL else n_demonstrations
        x = torch.randn(batch, n + n_dummies + 1, d, generator=generator, device=tasks.device)
        x = _shifted_inputs(x, n, shift, generator)
        scale = SCALES[shift.removeprefix("y-")] if shift.startswith("y-") else 1.0
        noise = 1.0 if shift == "label-noise" else 0.0
        scale *= (self.variance / (self.variance + noise)) ** 0.5
        y = self._outputs(x, tasks * scale)
        shown = y[:, :n]
        if noise:
            shown = shown + scale * torch.randn(
                shown.shape, generator=generator, device=tasks.device
            )
        query, answer = x[:, -1], y[:, -1]
        phi, phi_query = self.features(x[:, :n]), self.features(query)
        guesses = {
            "without": torch.zeros_like(answer),
            "optimal": ridge(phi, shown, phi_query, penalty=noise),
            "ols": ridge(phi, shown, phi_query, penalty=0.0),
        }
        if self.n_train_tasks is not None and shift == IN_DISTRIBUTION:
            # the mean of few w is not 0, and one demonstration without noise tells which it is
            mean = self._trained_tasks.mean(dim=0).to(x.device)
            guesses["without"] = self._outputs(query.unsqueeze(1), mean.expand_as(tasks))[:, 0]
            guesses["optimal"] = answer if n else guesses["without"]
        wrong = self._outputs(query.unsqueeze(1), tasks.roll(1, 0) * scale)[:, 0]
        question = Question(
            x=x[:, :n],
            y=shown,
            dummies=x[:, n : n + n_dummies],
            query=query,
            answer=answer,
            wrong_answer=wrong,
            tasks=tasks,
            baselines={
                name: (guess - answer).square() / self.variance for name, guess in guesses.items()
            },
        )
        return pair_eval_batch(self._coordinates, self.format, question)

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Float[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Squared errors."""
        return (self._coordinates.prediction(logits).float() - targets).square()

    def errors(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Float[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Squared errors over the outputs' variance."""
        return self.losses(logits, targets) / self.variance

    def probe_targets(self, tasks: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """The weights."""
        return tasks

    @property
    def _coordinates(self) -> Coordinates:
        return Coordinates(n_dims=self.n_dims)

    def _outputs(
        self, x: Float[Tensor, "batch n d"], w: Float[Tensor, "batch d"]
    ) -> Float[Tensor, "batch n"]:
        return (self.features(x) * w.unsqueeze(1)).sum(dim=-1)


def ridge(
    phi: Float[Tensor, "batch n d"],
    y: Float[Tensor, "batch n"],
    query: Float[Tensor, "batch d"],
    *,
    penalty: float,
) -> Float[Tensor, " batch"]:
    """The posterior mean of y at a query under w ~ N(0, I) and noise of variance `penalty`.

    Without a penalty it is least squares, and of least norm where the demonstrations are fewer than
    the dimensions.
    """
    phi = phi.double()  # what float32 rounds would pass for directions of its own
    gram = phi @ phi.transpose(1, 2)
    gram = gram + penalty * torch.eye(gram.shape[1], device=phi.device, dtype=gram.dtype)
    solved = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ y.double().unsqueeze(2)
    weights = phi.transpose(1, 2) @ solved
    predicted: Tensor = (weights[..., 0] * query.double()).sum(dim=1)
    return predicted.to(y.dtype)


def _shifted_inputs(
    x: Float[Tensor, "batch n d"], n: int, shift: str, generator: torch.Generator
) -> Float[Tensor, "batch n d"]:
    """Inputs under a shift; the first n are demonstrations, the last is the query."""
    batch, _, d = x.shape
    if shift in ("skewed", "half-subspace"):
        spread = 1 / torch.arange(1, d + 1, device=x.device)
        if shift == "half-subspace":
            spread = (torch.arange(d, device=x.device) < max(1, d // 2)).float()
        spread = spread * (d / spread.square().sum()).sqrt()
        square = torch.randn(batch, d, d, generator=generator, device=x.device)
        basis = torch.linalg.qr(square).Q
        skewed: Tensor = x @ (basis * spread) @ basis.transpose(1, 2)
        return skewed
    if shift == "orthants":
        signs = torch.randn(batch, 1, d, generator=generator, device=x.device).sign()
        return torch.cat([x[:, :-1].abs() * signs, x[:, -1:]], dim=1)
    if shift.startswith("x-"):
        return x * SCALES[shift.removeprefix("x-")]
    if shift == "query-shown":
        picked = torch.randint(n, (batch,), generator=generator, device=x.device)
        shown = x[torch.arange(batch, device=x.device), picked]
        return torch.cat([x[:, :-1], shown.unsqueeze(1)], dim=1)
    if shift == ORTHOGONAL:
        basis = torch.linalg.qr(x[:, :n].transpose(1, 2)).Q  # [batch, d, n]
        query = x[:, -1:]
        query = query - (query @ basis) @ basis.transpose(1, 2)
        query = query * (d**0.5 / query.norm(dim=-1, keepdim=True))
        return torch.cat([x[:, :-1], query], dim=1)
    return x


def paper_preset(task: str) -> VariantsConfig:
    """The published sizes of a regression family.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066: 12 layers, 8 heads, width 256,
        learning rate 1e-4, batch 64, 500,000 steps, dimensions 5 to 20 and points 11 to 41. l* over
        every second layer, and where both losses begin, are our choice.
    """
    return VariantsConfig(
        task=task,
        settings={"n_dims": 20, "n_demonstrations": 40},
        training=TrainingConfig(
            shape=LearnerShape(n_layers=12, d_model=256, n_heads=8),
            steps=500_000,
            tvp_from=250_000,
            batch_size=64,
            learning_rate=1e-4,
            warmup_steps=0,
            clip=None,
            curriculum=Curriculum(every=2_000, dims=(5, 20, 1), demonstrations=(10, 40, 2)),
            checkpoint_every=10_000,
            measure_every=5_000,
        ),
        tvp_layers=(None, 1, 3, 5, 7, 9),
        seeds=(0, 1, 2),
        with_shifts=True,
    )
