"""Linear regression: y = w·x."""

from jaxtyping import Float
from torch import Tensor

from taskvectors.learners.config import TrainingConfig, VariantsConfig
from taskvectors.learners.families import FAMILIES, Family
from taskvectors.learners.regression import GARG, ORTHOGONAL, Regression, paper_preset
from taskvectors.learners.shape import SMALL


class LinearRegression(Regression):
    """y = w·x with w, x ~ N(0, I), without noise.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066, 2.1. The sizes that Yang et al.
        (2025), https://arxiv.org/abs/2501.09240, use are not known to us.
    """

    kind: str = "linear"
    near_optimal: float = 0.05
    """ICL error over variance that counts as near the optimum, which is 0."""

    @property
    def variance(self) -> float:
        """Of y: d."""
        return float(self.n_dims)

    @property
    def shifts(self) -> tuple[str, ...]:
        """All shifts of regression, and a query orthogonal to the demonstrations."""
        return (*super().shifts, ORTHOGONAL)

    def features(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The inputs themselves."""
        return x


FAMILIES.register(
    Family(
        config=LinearRegression,
        summary="y = w·x; w, x ~ N(0, I)",
        papers=(GARG,),
        presets={
            "cpu": VariantsConfig(
                task="linear",
                settings={"n_dims": 2, "n_demonstrations": 6},
                training=TrainingConfig(
                    shape=SMALL,
                    steps=3_000,
                    tvp_from=1_200,
                    learning_rate=2e-3,
                    measure_every=250,
                ),
            ),
            "paper": paper_preset("linear"),
        },
    )
)
