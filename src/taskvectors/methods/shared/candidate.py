"""What a method gives: candidates, each a vector (or none) on some kind of prompts.

Which candidate of a method is shown as its result is chosen on the validation split, never here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from taskvectors.models.adapters import Adapter
from taskvectors.prompts import Prompt
from taskvectors.trunk import Branch
from taskvectors.vectors import Site, TaskVector


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a candidate took to make."""

    examples: int = 0
    """Different pairs with answers that were used."""
    steps: int = 0
    """Gradient steps."""
    seconds: float = 0.0
    seconds_per_step: float | None = None
    peak_bytes: int | None = None
    """Memory on top of the model, at the peak."""
    forward_tokens: int = 0
    parameters: int = 0
    """Numbers that were learned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One way to answer the task."""

    method: str
    vector: TaskVector | None = None
    """None for a plain run of the prompts."""
    edits: Callable[[Sequence[Prompt]], Branch] | None = None
    """In place of a vector, what no task vector holds: edits of single heads, or edits whose values
    depend on the prompts (`[prompt, position, width]`, in the order of the prompts)."""
    edited: tuple[Site, ...] = ()
    """Where `edits` act."""
    adapter: Adapter | None = None
    """In place of a vector, what acts on whole forward passes: it is scored with one of its own."""
    shots: int = 0
    """Demonstrations in the prompts it is run on."""
    shared_demonstrations: bool = False
    """Whether all prompts of a plain run show the same demonstrations, which then run once."""
    strength: float = 1.0
    configuration: str = ""
    note: str = ""
    """A remark that its row carries."""
    logit_bias: Float[Tensor, " d_vocab"] | None = None
    """Added to the logits where an answer begins (a control)."""
    constant_answer: str | None = None
    """Given to every query (a control); the model is not run."""
    cost: Cost = field(default_factory=Cost)
    d_ntp: float | None = None
    """Divergence of its next-token distribution from that of in-context learning, on validation;
    where the method measures it."""
    converged: bool | None = None
    """Whether training had stopped improving on validation; None where nothing is trained."""
    curve: Sequence[Mapping[str, float]] = ()
    """What was logged during training."""

    def __post_init__(self) -> None:
        if self.vector is not None:  # it keeps the prompts that it acts on
            origin = replace(self.vector.origin, used_shots=self.shots)
            object.__setattr__(self, "vector", replace(self.vector, origin=origin))

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it acts on the model; nowhere for a plain run."""
        return self.edited if self.vector is None else self.vector.sites

    def branch(self, prompts: Sequence[Prompt]) -> Branch:
        """Its edits on some prompts."""
        if self.edits is not None:
            return self.edits(prompts)
        return () if self.vector is None else self.vector.edits(self.strength)
