"""How we get a vector: one file per method, extracted and learned.

A method is a frozen config and one function from a run context to candidates. `METHODS` is the one
registry; a test walks it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from taskvectors.methods.adapters import (
    IA3,
    BitFit,
    Lora,
    PrefixTuning,
    PromptTuning,
    adapters,
)
from taskvectors.methods.adaptive import Adaptive, adaptive
from taskvectors.methods.api import extract, learn
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.function_vector import FunctionVector, function_vector
from taskvectors.methods.function_vector_attribution import (
    FunctionVectorAttribution,
    function_vector_attribution,
)
from taskvectors.methods.hendel import Hendel, hendel
from taskvectors.methods.icl import InContext, icl
from taskvectors.methods.icv import InContextVector, icv
from taskvectors.methods.learned import Learned, learned, named_recipe
from taskvectors.methods.learned_heads import LearnedHeads, learned_heads
from taskvectors.methods.library import Library, library
from taskvectors.methods.linear import Linear, linear
from taskvectors.methods.multi_head import MultiHead, multi_head
from taskvectors.methods.multi_injection import MultiInjection, multi_injection
from taskvectors.methods.reft import LobiReFT, LoReFT, lobireft, loreft
from taskvectors.methods.run_context import RunContext
from taskvectors.methods.state_vector import StateVector, state_vector
from taskvectors.methods.training.recipe import Recipe
from taskvectors.methods.vanilla import Vanilla, vanilla
from taskvectors.methods.zero_shot import ZeroShot, zero_shot


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method's name, what it takes and what it does."""

    config: type[BaseModel]
    find: Callable[[RunContext, Any], list[Candidate]]
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
    "loreft": Method(
        config=LoReFT,
        find=loreft,
        summary="a low-rank edit of the state at the site, trained, the model frozen",
        source="Wu et al. 2024, arXiv 2404.03592",
        gives_vector=False,
    ),
    "lobireft": Method(
        config=LobiReFT,
        find=lobireft,
        summary="the constant part of that edit: a vector in a trained low-rank subspace",
        source="Wu et al. 2024, arXiv 2404.03592",
    ),
    "prompt-tuning": Method(
        config=PromptTuning,
        find=adapters,
        summary="trained embeddings before the prompt (peft)",
        source="Lester et al. 2021, arXiv 2104.08691",
        gives_vector=False,
    ),
    "prefix-tuning": Method(
        config=PrefixTuning,
        find=adapters,
        summary="trained keys and values before those of the prompt, in every block (peft)",
        source="Li and Liang 2021, arXiv 2101.00190",
        gives_vector=False,
    ),
    "lora": Method(
        config=Lora,
        find=adapters,
        summary="a trained low-rank change of linear maps (peft)",
        source="Hu et al. 2021, arXiv 2106.09685",
        gives_vector=False,
    ),
    "ia3": Method(
        config=IA3,
        find=adapters,
        summary="trained factors on keys, values and the MLP's activations (peft)",
        source="Liu et al. 2022, arXiv 2205.05638",
        gives_vector=False,
    ),
    "bitfit": Method(
        config=BitFit,
        find=adapters,
        summary="the model's own biases, trained",
        source="Ben Zaken et al. 2021, arXiv 2106.10199",
        gives_vector=False,
    ),
    "icv": Method(
        config=InContextVector,
        find=icv,
        summary="main direction from inputs to outputs, turns every MLP's output at every token",
        source="Liu et al. 2024, arXiv 2311.06668",
    ),
    "state-vector": Method(
        config=StateVector,
        find=state_vector,
        summary="outputs of the first layers' heads at separators, averaged or with momentum",
        source="Li et al. 2024, arXiv 2404.11225",
    ),
    "multi-injection": Method(
        config=MultiInjection,
        find=multi_injection,
        summary="N + 1 vectors in place of every answer separator of an N-shot prompt",
        source="Dong et al. 2026, arXiv 2506.09048",
    ),
    "linear": Method(
        config=Linear,
        find=linear,
        summary="ridge map from the zero-shot state to what demonstrations change, added",
        source="Kwon et al. 2026, arXiv 2605.20730",
        gives_vector=False,
    ),
    "library": Method(
        config=Library,
        find=library,
        summary="a folder of saved vectors, one retrieved per query, or none below a threshold",
        source="ELICIT 2025, arXiv 2410.09343",
        gives_vector=False,
    ),
    "adaptive": Method(
        config=Adaptive,
        find=adaptive,
        summary="a vector per query and layer by a trained linear map from the query's embedding",
        source="ATV 2025, arXiv 2506.03426",
        gives_vector=False,
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
    | Learned
    | LoReFT
    | LobiReFT
    | PromptTuning
    | PrefixTuning
    | Lora
    | IA3
    | BitFit
    | InContextVector
    | StateVector
    | MultiInjection
    | Linear
    | Library
    | Adaptive,
    Field(discriminator="kind"),
]
"""Any method's config."""

__all__ = [
    "IA3",
    "METHODS",
    "Adaptive",
    "BitFit",
    "Candidate",
    "Cost",
    "FunctionVector",
    "FunctionVectorAttribution",
    "Hendel",
    "InContext",
    "InContextVector",
    "Learned",
    "LearnedHeads",
    "Library",
    "Linear",
    "LoReFT",
    "LobiReFT",
    "Lora",
    "Method",
    "MethodConfig",
    "MultiHead",
    "MultiInjection",
    "PrefixTuning",
    "PromptTuning",
    "Recipe",
    "RunContext",
    "StateVector",
    "Vanilla",
    "ZeroShot",
    "extract",
    "learn",
    "named_recipe",
]
