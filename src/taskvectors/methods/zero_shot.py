"""`zero-shot`: the query alone. The floor that every vector is measured from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import METHODS, Method, never
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext


class ZeroShot(BaseModel):
    """No demonstrations and no vector."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["zero-shot"] = "zero-shot"


def zero_shot(context: RunContext, config: ZeroShot) -> list[Candidate]:
    """The plain run of zero-shot prompts."""
    del context
    return [Candidate(method=config.kind, configuration="0 shots")]


def _plan(context: RunContext, config: ZeroShot) -> Plan:
    del config
    return Plan(joins=(context.model.n_layers - 1,))


METHODS.register(
    Method(
        config=ZeroShot,
        find=zero_shot,
        plan=_plan,
        title="Zero-shot",
        summary="the query alone, no vector",
        papers=(),
        fails="Where the template already says what is wanted, the row is no floor but a result "
        "of the template.",
        gives_vector=False,
        is_baseline=True,
        reads_shots=never,
    )
)
