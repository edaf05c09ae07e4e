"""What learners are trained on and measured with, and how each is trained."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskvectors.learners.shape import LearnerShape


class Curriculum(BaseModel):
    """Sequences that grow while training: Garg et al.'s schedule, in any number of steps.

    Source: Garg et al. (2022), https://arxiv.org/abs/2208.01066, A.2: dimensions 5 to 20 by one and
        points 11 to 41 by two, every 2,000 steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    every: int = Field(ge=1)
    """Steps between two extensions."""
    demonstrations: tuple[int, int, int] | None = None
    """First number of demonstrations, last, and by how many it grows."""
    dims: tuple[int, int, int] | None = None
    """The same for the dimensions of inputs that are not zero."""


class TrainingConfig(BaseModel):
    """One training run. L_ICL alone up to `tvp_from`, then L_ICL + tvp_weight · L_TVP.

    Without `tvp_layer` it is L_ICL to the end: the vanilla variant. Two runs that differ in what
    comes after `tvp_from` have the steps before it in common.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    shape: LearnerShape = LearnerShape()
    seed: int = 0
    """Seed of weights and sequences."""
    steps: int = Field(default=4000, ge=1)
    """All steps."""
    tvp_from: int = Field(default=2000, ge=0)
    """Steps on L_ICL alone."""
    tvp_layer: int | None = Field(default=None, ge=0)
    """l*: the block, from 0, after which the vector is formed; none for the vanilla variant."""
    tvp_weight: float = Field(default=1.0, gt=0)
    """λ."""
    stop_gradient: bool = False
    """Do not let L_TVP change how the vector is made."""
    sites_per_sequence: int = Field(default=8, ge=1)
    """Most sites of a sequence that a step puts into L_TVP, drawn anew each step."""
    batch_size: int = Field(default=64, ge=1)
    """Sequences per step, over all devices."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    warmup_steps: int = Field(default=200, ge=0)
    """Steps over which the learning rate rises; it then stays until `tvp_from`, and falls along a
    cosine to a tenth at the end."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient."""
    curriculum: Curriculum | None = None
    """How sequences grow; all are of full size by default."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` computes matrix products in it; weights and optimizer stay float32."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    measure_every: int = Field(default=500, ge=1)
    """Steps between points of the emergence curves."""
    n_curve_trials: int = Field(default=256, ge=2)
    """Trials per point of the curves."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainingConfig":
        last = self.shape.n_layers - 2
        if self.tvp_layer is not None and self.tvp_layer > last:
            raise ValueError(
                f"tvp_layer {self.tvp_layer} is too late: after it a block has to read the query, "
                f"so a learner of {self.shape.n_layers} layers takes 0 to {last}"
            )
        if self.tvp_from > self.steps:
            raise ValueError(
                f"{self.tvp_from} steps on L_ICL alone (tvp_from, --icl-steps) are more than all "
                f"{self.steps} steps"
            )
        return self


class VariantsConfig(BaseModel):
    """What is trained and measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    task: str
    """A family, or the path of a file that has one."""
    settings: dict[str, Any] = {}
    """Values of the family's fields."""
    training: TrainingConfig = TrainingConfig()
    """How each variant is trained, apart from seed and layer."""
    tvp_layers: tuple[int | None, ...] = Field(default=(None, 1), min_length=1)
    """One variant each; None is vanilla."""
    equal_flops: bool = False
    """Train vanilla with the floating-point operations of the costliest variant, too."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each trains all variants."""
    n_trials: int = Field(default=1280, ge=2)
    """Trials that results are on."""
    with_shifts: bool = False
    """Run the out-of-distribution battery on every variant."""

    @model_validator(mode="after")
    def _fits(self) -> "VariantsConfig":
        n_layers = self.training.shape.n_layers
        for layer in self.tvp_layers:
            if layer is not None and not 0 <= layer <= n_layers - 2:
                raise ValueError(
                    f"layer {layer} is no place for the vector of a learner of {n_layers} layers: "
                    f"after it a block has to read the query, so it is 0 to {n_layers - 2}"
                )
        return self
