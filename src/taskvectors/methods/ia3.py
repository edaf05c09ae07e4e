"""`ia3`: trained factors on keys, values and the MLP's activations by peft, the model frozen."""

from typing import Literal

from taskvectors.methods.shared.adapters import AdapterConfig, Size, adapters, register_adapter
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapter, PeftAdapter, is_transposed, load_peft, scaled_maps


class IA3(AdapterConfig):
    """Factors on keys, values and the MLP's inner activations."""

    kind: Literal["ia3"] = "ia3"

    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """In one block, or in all."""
        attention, last = scaled_maps(model, self.layers(model, size))
        config = load_peft().IA3Config(
            task_type="CAUSAL_LM",
            target_modules=[*attention, *last],
            feedforward_modules=last,
            fan_in_fan_out=is_transposed(model),
        )
        return PeftAdapter(config=config, seed=seed)

    def describe(self, size: Size, layer: int) -> str:
        """Place."""
        return f"factors in block {layer}" if size == "matched" else "factors in all blocks"


def ia3(context: RunContext, config: IA3) -> list[Candidate]:
    """One candidate per size, at the best of the learning rates.

    Source: Liu et al. (2022), https://arxiv.org/abs/2205.05638. We differ: sizes near that of
        one vector, one grid of rates and one budget of steps for all adapters; keys and values in
        every family, none of the paper's further losses.
    """
    return adapters(context, config)


register_adapter(
    config=IA3,
    find=ia3,
    title="(IA)³",
    summary="trained factors on keys, values and the MLP's activations (peft)",
    papers=(
        Paper(
            "Liu, Tam, Muqeeth, Mohta, Huang, Bansal, Raffel",
            2022,
            "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than "
            "In-Context Learning",
            "https://arxiv.org/abs/2205.05638",
        ),
    ),
    fails="It can only scale: what no activation holds cannot be brought out.",
)
