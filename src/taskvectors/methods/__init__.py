"""How we get a vector: one file per method, extracted and learned.

A method is a frozen config and one function from a workbench to candidates. `METHODS` is the one
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
from taskvectors.methods.api import extract, learn
from taskvectors.methods.candidate import Candidate, Cost
from taskvectors.methods.icl import InContext, icl
from taskvectors.methods.learned import Learned, learned, named_recipe
from taskvectors.methods.recipe import Recipe
from taskvectors.methods.reft import LobiReFT, LoReFT, lobireft, loreft
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
    "loreft": Method(
        config=LoReFT,
        find=loreft,
        summary="a low-rank edit of the state at the site, trained, the model frozen",
        source="Wu et al. 2024, arXiv 2404.03592",
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
    ),
    "prefix-tuning": Method(
        config=PrefixTuning,
        find=adapters,
        summary="trained keys and values before those of the prompt, in every block (peft)",
        source="Li and Liang 2021, arXiv 2101.00190",
    ),
    "lora": Method(
        config=Lora,
        find=adapters,
        summary="a trained low-rank change of linear maps (peft)",
        source="Hu et al. 2021, arXiv 2106.09685",
    ),
    "ia3": Method(
        config=IA3,
        find=adapters,
        summary="trained factors on keys, values and the MLP's activations (peft)",
        source="Liu et al. 2022, arXiv 2205.05638",
    ),
    "bitfit": Method(
        config=BitFit,
        find=adapters,
        summary="the model's own biases, trained",
        source="Ben Zaken et al. 2021, arXiv 2106.10199",
    ),
}
"""Methods by the name the command line uses."""

MethodConfig = Annotated[
    ZeroShot
    | InContext
    | Vanilla
    | Learned
    | LoReFT
    | LobiReFT
    | PromptTuning
    | PrefixTuning
    | Lora
    | IA3
    | BitFit,
    Field(discriminator="kind"),
]
"""Any method's config."""

__all__ = [
    "IA3",
    "METHODS",
    "BitFit",
    "Candidate",
    "Cost",
    "InContext",
    "Learned",
    "LoReFT",
    "LobiReFT",
    "Lora",
    "Method",
    "MethodConfig",
    "PrefixTuning",
    "PromptTuning",
    "Recipe",
    "Vanilla",
    "Workbench",
    "ZeroShot",
    "extract",
    "learn",
    "named_recipe",
]
