"""`icl`: demonstrations in the prompt. What a vector is to equal."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext


class InContext(BaseModel):
    """Demonstrations drawn per query from the training split, and no vector."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["icl"] = "icl"
    shots: int | None = Field(default=None, ge=1)
    """Demonstrations per prompt; those of the comparison by default."""


def icl(context: RunContext, config: InContext) -> list[Candidate]:
    """The plain run of few-shot prompts."""
    shots = _shots(context, config)
    return [
        Candidate(
            method=config.kind,
            shots=shots,
            configuration=f"{shots} shots",
            cost=Cost(examples=shots),
        )
    ]


def _plan(context: RunContext, config: InContext) -> Plan:
    return Plan(joins=(context.model.n_layers - 1,), shots=_shots(context, config))


def _shots(context: RunContext, config: InContext) -> int:
    return context.shots if config.shots is None else config.shots


METHODS.register(
    Method(
        config=InContext,
        find=icl,
        plan=_plan,
        title="In-context learning",
        summary="demonstrations in the prompt, no vector",
        papers=(
            Paper(
                "Brown et al.",
                2020,
                "Language Models are Few-Shot Learners",
                "https://arxiv.org/abs/2005.14165",
            ),
        ),
        fails="Small models depend on the order of the demonstrations, and with few labels a "
        "prompt may show only one of them.",
        gives_vector=False,
        is_baseline=True,
        quick={"shots": 3},
        reads_shots=lambda config: config.shots is None,
    )
)
