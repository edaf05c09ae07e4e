"""`icl`: demonstrations in the prompt. What a vector is to equal."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.run_context import RunContext


class InContext(BaseModel):
    """Demonstrations drawn per query from the training split, and no vector."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["icl"] = "icl"
    shots: int | None = Field(default=None, ge=1)
    """Demonstrations per prompt; those of the comparison by default."""


def icl(context: RunContext, config: InContext) -> list[Candidate]:
    """The plain run of few-shot prompts."""
    shots = context.shots if config.shots is None else config.shots
    return [
        Candidate(
            method=config.kind,
            shots=shots,
            configuration=f"{shots} shots",
            cost=Cost(examples=shots),
        )
    ]
