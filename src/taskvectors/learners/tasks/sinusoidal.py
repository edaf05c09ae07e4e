"""Sinusoidal regression: y = w·sin(x), the sine of each entry."""

import math

from jaxtyping import Float
from torch import Tensor

from taskvectors.learners.config import TrainingConfig, VariantsConfig
from taskvectors.learners.families import FAMILIES, YANG, Family
from taskvectors.learners.regression import Regression, paper_preset
from taskvectors.learners.shape import SMALL


class SinusoidalRegression(Regression):
    """y = w·sin(x) with w, x ~ N(0, I), without noise: nonlinear in x, linear in the task.

    Source: Yang et al. (2025), https://arxiv.org/abs/2501.09240, name the task; the function is our
        choice, since theirs is not known to us.
    """

    kind: str = "sinusoidal"
    near_optimal: float = 0.1
    """ICL error over variance that counts as near the optimum, which is 0."""

    @property
    def variance(self) -> float:
        """Of y: E sin² = (1 - e^-2) / 2 for a standard normal variable, times d."""
        return self.n_dims * (1 - math.exp(-2)) / 2

    def features(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The sine of each entry."""
        return x.sin()


FAMILIES.register(
    Family(
        config=SinusoidalRegression,
        summary="y = w·sin(x), the sine of each entry",
        papers=(YANG,),
        presets={
            "cpu": VariantsConfig(
                task="sinusoidal",
                settings={"n_dims": 2, "n_demonstrations": 6},
                training=TrainingConfig(
                    shape=SMALL,
                    steps=4_000,
                    tvp_from=1_000,
                    learning_rate=2e-3,
                    measure_every=250,
                ),
            ),
            "paper": paper_preset("sinusoidal"),
        },
    )
)
