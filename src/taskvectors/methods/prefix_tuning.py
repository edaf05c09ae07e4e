"""`prefix-tuning`: trained keys and values before those of the prompt, in every block."""

from typing import Literal

from taskvectors.methods.shared.adapters import Size, VirtualTokens, adapters, register_adapter
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapter, PeftAdapter, load_peft


class PrefixTuning(VirtualTokens):
    """Trained keys and values in every block, before those of the prompt."""

    kind: Literal["prefix-tuning"] = "prefix-tuning"

    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """One token, which is its least: a key and a value in every block; or 20."""
        for layer in range(model.n_layers):
            model.part(layer, "attention")  # raises where a block has no keys and values
        config = load_peft().PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=self.n_virtual(size)
        )
        return PeftAdapter(config=config, seed=seed)


def prefix_tuning(context: RunContext, config: PrefixTuning) -> list[Candidate]:
    """One candidate per size, at the best of the learning rates.

    Source: Li and Liang (2021), https://arxiv.org/abs/2101.00190. We differ: sizes near that of
        one vector, one grid of rates and one budget of steps for all adapters; no reparametrisation
        by an MLP.
    """
    return adapters(context, config)


register_adapter(
    config=PrefixTuning,
    find=prefix_tuning,
    title="Prefix tuning",
    summary="trained keys and values before those of the prompt, in every block (peft)",
    papers=(
        Paper(
            "Li, Liang",
            2021,
            "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
            "https://arxiv.org/abs/2101.00190",
        ),
    ),
    fails="Even one token is larger than a vector, and it starts far from any key that the "
    "model makes.",
)
