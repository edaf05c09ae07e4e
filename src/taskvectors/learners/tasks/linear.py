"""Linear regression: y = w·x."""

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.learners.family import IN_DISTRIBUTION, Episode, Extent, Split, Trial
from taskvectors.learners.pairs import Format, columns_of
from taskvectors.learners.regression import (
    ORTHOGONAL,
    SHIFTS,
    Coordinates,
    regression_episode,
    regression_trial,
)


class LinearRegression(BaseModel):
    """y = w·x with w, x ~ N(0, I), without noise; a fresh w for every sequence.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066, 2.1. The sizes that Yang et al.
        (2025), https://arxiv.org/abs/2501.09240, use are not known to us.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: str = "linear"
    n_dims: int = Field(default=5, ge=2)
    """d, the dimensions of x."""
    n_demonstrations: int = Field(default=11, ge=1)
    """Pairs before the last prediction of a sequence."""
    format: Format = "xzy"
    """How pairs are written."""
    near_optimal: float = 0.05
    """ICL error over variance that counts as near the optimum, which is 0."""

    @property
    def _coordinates(self) -> Coordinates:
        return Coordinates(n_dims=self.n_dims)

    @property
    def d_vocab(self) -> int:
        """Coordinates of a row."""
        return self._coordinates.n

    @property
    def shifts(self) -> tuple[str, ...]:
        """All shifts of regression, and a query orthogonal to the demonstrations."""
        return (*SHIFTS, ORTHOGONAL)

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
            float(self.n_dims),
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
        """Squared errors over the outputs' variance, d."""
        return self.losses(logits, targets) / self.n_dims

    def probe_targets(self, tasks: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """The weights."""
        return tasks


def _features(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    return x


FAMILY = LinearRegression
