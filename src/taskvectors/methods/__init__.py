"""How we get a vector: one file per method, extracted and learned.

A method is a frozen config and one function from a workbench to candidates. `METHODS` is the one
registry; a test walks it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from taskvectors.methods.api import extract, learn
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.icl import InContext, icl
from taskvectors.methods.learned import Learned, learned, named_recipe
from taskvectors.methods.training import Recipe
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.methods.workbench import Workbench
from taskvectors.methods.zero_shot import ZeroShot, zero_shot


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method's name, what it takes and what it does."""

    config: type[BaseModel]
    find: Callable[[Workbench, Any], list[Candidate]]
    summary: str
    source: str


METHODS: dict[str, Method] = {
    "zero-shot": Method(
        config=ZeroShot, find=zero_shot, summary="the query alone, no vector", source="baseline"
    ),
    "icl": Method(
        config=InContext,
        find=icl,
        summary="demonstrations in the prompt, no vector",
        source="Brown et al. 2020, arXiv 2005.14165",
    ),
    "vanilla": Method(
        config=Vanilla,
        find=vanilla,
        summary="mean difference of last-token states with and without demonstrations, added",
        source="Yang et al. 2026, arXiv 2509.24169; after Hendel et al. 2023, arXiv 2310.15916",
    ),
    "learned": Method(
        config=Learned,
        find=learned,
        summary="the injected vector trained by gradient descent, the model frozen (LTV)",
        source="Yang et al. 2026, arXiv 2509.24169",
    ),
}
"""Methods by the name the command line uses."""

MethodConfig = Annotated[ZeroShot | InContext | Vanilla | Learned, Field(discriminator="kind")]
"""Any method's config."""

__all__ = [
    "METHODS",
    "Candidate",
    "Cost",
    "InContext",
    "Learned",
    "Method",
    "MethodConfig",
    "Recipe",
    "Vanilla",
    "Workbench",
    "ZeroShot",
    "extract",
    "learn",
    "named_recipe",
]
