"""Sinusoidal regression: y = w·sin(x), the sine of each entry."""

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.family import IN_DISTRIBUTION, Episode, Extent, Split, Trial
from taskvectors.learners.pairs import Format, columns_of
from taskvectors.learners.regression import (
    SHIFTS,
    Coordinates,
    regression_episode,
    regression_trial,
)


class SinusoidalRegression(BaseModel):
    """y = w·sin(x) with w, x ~ N(0, I), without noise: nonlinear in x, linear in the task.

    Source: Yang et al. (2025), https://arxiv.org/abs/2501.09240, name the task; the function is our
        choice, since theirs is not known to us.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: str = "sinusoidal"
    n_dims: int = Field(default=5, ge=2)
    """d, the dimensions of x."""
    n_demonstrations: int = Field(default=11, ge=1)
    """Pairs before the last prediction of a sequence."""
    format: Format = "xzy"
    """How pairs are written."""
    near_optimal: float = 0.1
    """ICL error over variance that counts as near the optimum, which is 0."""

    @property
    def _coordinates(self) -> Coordinates:
        return Coordinates(n_dims=self.n_dims)

    @property
    def _variance(self) -> float:
        """Of y: E sin² = (1 - e^-2) / 2 for a standard normal variable, times d."""
        return self.n_dims * (1 - math.exp(-2)) / 2

    @property
    def d_vocab(self) -> int:
        """Coordinates of a row."""
        return self._coordinates.n

    @property
    def shifts(self) -> tuple[str, ...]:
        """All shifts of regression."""
        return SHIFTS

    def n_positions(self, n_demonstrations: int) -> int:
        """Columns of a sequence."""
        return columns_of(self.format, n_demonstrations)

    def draw_tasks(
        self, n: int, generator: torch.Generator, split: Split = "train"
    ) -> Float[Tensor, "batch d"]:
        """Weights; there are infinitely many, so both splits are fresh ones."""
        del split
        return torch.randn(n, self.n_dims, generator=generator, device=generator.device)

    def episode(
        self, tasks: Float[Tensor, "batch d"], generator: torch.Generator, extent: Extent
    ) -> Episode:
        """Training sequences."""
        n = self.n_demonstrations
        return regression_episode(_features, self.format, tasks, generator, n, extent)

    def trial(
        self,
        tasks: Float[Tensor, "batch d"],
        generator: torch.Generator,
        n_demonstrations: int,
        *,
        shift: str = IN_DISTRIBUTION,
        n_dummies: int = 1,
    ) -> Trial:
        """A question for each task."""
        return regression_trial(
            _features,
            self.format,
            self._variance,
            tasks,
            generator,
            n_demonstrations,
            shift,
            n_dummies,
        )

    def losses(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Float[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Squared errors."""
        return (self._coordinates.prediction(logits).float() - targets).square()

    def errors(
        self, logits: Float[Tensor, "*reads d_vocab"], targets: Float[Tensor, "*reads"]
    ) -> Float[Tensor, "*reads"]:
        """Squared errors over the outputs' variance."""
        return self.losses(logits, targets) / self._variance

    def probe_targets(self, tasks: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """The weights."""
        return tasks


def _features(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    return x.sin()


FAMILY = SinusoidalRegression
