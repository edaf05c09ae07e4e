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
from taskvectors.methods.function_vector import FunctionVector, function_vector
from taskvectors.methods.function_vector_attribution import (
    FunctionVectorAttribution,
    function_vector_attribution,
)
from taskvectors.methods.hendel import Hendel, hendel
from taskvectors.methods.icl import InContext, icl
from taskvectors.methods.learned import Learned, learned, named_recipe
from taskvectors.methods.learned_heads import LearnedHeads, learned_heads
from taskvectors.methods.multi_head import MultiHead, multi_head
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
    gives_vector: bool = True
    """Whether what it finds is a task vector, which can be saved and injected."""


METHODS: dict[str, Method] = {
    "zero-shot": Method(
        config=ZeroShot,
        find=zero_shot,
        summary="the query alone, no vector",
        source="baseline",
        gives_vector=False,
    ),
    "icl": Method(
        config=InContext,
        find=icl,
        summary="demonstrations in the prompt, no vector",
        source="Brown et al. 2020, arXiv 2005.14165",
        gives_vector=False,
    ),
    "vanilla": Method(
        config=Vanilla,
        find=vanilla,
        summary="mean difference of last-token states with and without demonstrations, added",
        source="Yang et al. 2026, arXiv 2509.24169; after Hendel et al. 2023, arXiv 2310.15916",
    ),
    "hendel": Method(
        config=Hendel,
        find=hendel,
        summary="the mean last-token state behind demonstrations, replacing the query's",
        source="Hendel et al. 2023, arXiv 2310.15916",
    ),
    "function-vector": Method(
        config=FunctionVector,
        find=function_vector,
        summary="summed mean results of the heads with the largest indirect effects, added",
        source="Todd et al. 2024, arXiv 2310.15213",
    ),
    "function-vector-attribution": Method(
        config=FunctionVectorAttribution,
        find=function_vector_attribution,
        summary="the same, the heads found by one forward and one backward pass",
        source="Syed et al. 2023, arXiv 2310.10348; Todd et al. 2024, arXiv 2310.15213",
    ),
    "learned-heads": Method(
        config=LearnedHeads,
        find=learned_heads,
        summary="mean results of all heads with one learned weight each, added at every layer",
        source="Saglam et al. 2025, arXiv 2502.05390",
    ),
    "multi-head": Method(
        config=MultiHead,
        find=multi_head,
        summary="mean outputs of heads that a policy gradient chooses, replacing the heads' own",
        source="Huang et al. 2024, arXiv 2406.15334",
        gives_vector=False,
    ),
    "learned": Method(
        config=Learned,
        find=learned,
        summary="the injected vector trained by gradient descent, the model frozen (LTV)",
        source="Yang et al. 2026, arXiv 2509.24169",
    ),
}
"""Methods by the name the command line uses."""

MethodConfig = Annotated[
    ZeroShot
    | InContext
    | Vanilla
    | Hendel
    | FunctionVector
    | FunctionVectorAttribution
    | LearnedHeads
    | MultiHead
    | Learned,
    Field(discriminator="kind"),
]
"""Any method's config."""

__all__ = [
    "METHODS",
    "Candidate",
    "Cost",
    "FunctionVector",
    "FunctionVectorAttribution",
    "Hendel",
    "InContext",
    "Learned",
    "LearnedHeads",
    "Method",
    "MethodConfig",
    "MultiHead",
    "Recipe",
    "Vanilla",
    "Workbench",
    "ZeroShot",
    "extract",
    "learn",
    "named_recipe",
]
