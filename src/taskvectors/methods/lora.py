"""`lora`: a trained low-rank change of linear maps by peft, the model frozen."""

from typing import Literal

from taskvectors.methods.shared.adapters import AdapterConfig, Size, adapters, register_adapter
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import (
    Adapter,
    PeftAdapter,
    attention_maps,
    is_transposed,
    load_peft,
    output_maps,
)

_RANK = 8
"""peft's own."""


class Lora(AdapterConfig):
    """A low-rank change of linear maps."""

    kind: Literal["lora"] = "lora"

    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """Rank 1 on W_O of one block (2d numbers where it is square), or rank 8 on attention."""
        targets = output_maps if size == "matched" else attention_maps
        rank = 1 if size == "matched" else _RANK
        config = load_peft().LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=rank,
            target_modules=targets(model, self.layers(model, size)),
            fan_in_fan_out=is_transposed(model),
        )
        return PeftAdapter(config=config, seed=seed)

    def describe(self, size: Size, layer: int) -> str:
        """Rank and place."""
        if size == "matched":
            return f"rank 1 on W_O of block {layer}"
        return f"rank {_RANK} on all maps of attention"


def lora(context: RunContext, config: Lora) -> list[Candidate]:
    """One candidate per size, at the best of the learning rates.

    Source: Hu et al. (2021), https://arxiv.org/abs/2106.09685. We differ: sizes near that of
        one vector, one grid of rates and one budget of steps for all adapters; alpha is r, no
        dropout.
    """
    return adapters(context, config)


register_adapter(
    config=Lora,
    find=lora,
    title="LoRA",
    summary="a trained low-rank change of linear maps (peft)",
    papers=(
        Paper(
            "Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen",
            2022,
            "LoRA: Low-Rank Adaptation of Large Language Models",
            "https://arxiv.org/abs/2106.09685",
        ),
    ),
    fails="It acts on all positions, so a difference to a learned vector mixes what is "
    "trained with where it acts.",
)
