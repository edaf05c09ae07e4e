"""How something is trained: everything but what and where."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
    distillation: float = Field(default=0.0, ge=0, le=1)
    """Share of the loss that is KL(few-shot run || this run) at the answer; the rest is the label's
    negative log-probability."""
    penalty: Literal["none", "orthogonality", "sparsity"] = "none"
    """What is added to the loss where a vector has several sites: the mean squared cosine of their
    parts, or the mean norm of the parts, which empties sites that do little."""
    penalty_weight: float = Field(default=0.1, ge=0)
    """Factor of the penalty."""
    learn_strength: bool = False
    """Learn one factor of the whole vector beside its values: θ = s·a·u, a from 1 on."""
