"""`zero-shot`: the query alone. The floor that every vector is measured from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from taskvectors.methods.candidate import Candidate
from taskvectors.methods.run_context import RunContext


class ZeroShot(BaseModel):
    """No demonstrations and no vector."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["zero-shot"] = "zero-shot"


def zero_shot(context: RunContext, config: ZeroShot) -> list[Candidate]:
    """The plain run of zero-shot prompts."""
    del context
    return [Candidate(method=config.kind, configuration="0 shots")]
