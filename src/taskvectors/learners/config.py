"""What learners are trained on and measured with, and how each is trained."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskvectors.learners.shape import LearnerShape

TvpLayer = int | tuple[int, ...] | None
"""Where a vector is formed: after one block, after several, or nowhere."""


def places_of(layer: TvpLayer) -> tuple[int, ...]:
    """The blocks after which a vector is formed.

    Example:
        >>> [places_of(layer) for layer in (None, 1, (0, 2))]
        [(), (1,), (0, 2)]
    """
    if layer is None:
        return ()
    return (layer,) if isinstance(layer, int) else layer


def check_places(layer: TvpLayer, n_layers: int) -> None:
    """Refuse places that no block after them reads, or that are named twice.

    Raises:
        ValueError: A place is out of range, or there are none of several, or one of them twice.
    """
    places, last = places_of(layer), n_layers - 2
    for one in places:
        if not 0 <= one <= last:
            raise ValueError(
                f"layer {one} is no place for the vector of a learner of {n_layers} layers: "
                f"after it a block has to read the query, so it is 0 to {last}"
            )
    if layer is not None and (not places or len(set(places)) < len(places)):
        raise ValueError(f"{layer} does not name different layers; give each one once, as in 0+2")


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
    tvp_layer: TvpLayer = None
    """l*: the block, from 0, after which the vector is formed; several are trained together, none
    is the vanilla variant."""
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
    n_curve_trials: int = Field(default=256, ge=4)
    """Trials per point of the curves."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainingConfig":
        check_places(self.tvp_layer, self.shape.n_layers)
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
    tvp_layers: tuple[TvpLayer, ...] = Field(default=(None, 1), min_length=1)
    """One variant each; None is vanilla, several in one are trained together."""
    equal_flops: bool = False
    """Train vanilla with the floating-point operations of the costliest variant, too."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each trains all variants."""
    n_trials: int = Field(default=1280, ge=4)
    """Trials that results are on."""
    with_shifts: bool = False
    """Run the out-of-distribution battery on every variant."""

    @model_validator(mode="after")
    def _fits(self) -> "VariantsConfig":
        for layer in self.tvp_layers:
            check_places(layer, self.training.shape.n_layers)
        return self
