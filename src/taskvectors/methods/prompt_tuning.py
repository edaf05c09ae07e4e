"""`prompt-tuning`: trained embeddings before the prompt by peft, the model frozen."""

from typing import Literal

from taskvectors.methods.shared.adapters import Size, VirtualTokens, adapters, register_adapter
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapter, PeftAdapter, check_takes_embeddings, load_peft


class PromptTuning(VirtualTokens):
    """Trained embeddings before the prompt."""

    kind: Literal["prompt-tuning"] = "prompt-tuning"

    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """One token (d numbers), or 20."""
        check_takes_embeddings(model)
        config = load_peft().PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=self.n_virtual(size),
            token_dim=model.hf.get_input_embeddings().weight.shape[1],
        )
        return PeftAdapter(config=config, seed=seed)

    def n_tokens(self, size: Size) -> int:
        """Its own, which go through every block."""
        return self.n_virtual(size)


def prompt_tuning(context: RunContext, config: PromptTuning) -> list[Candidate]:
    """One candidate per size, at the best of the learning rates.

    Source: Lester et al. (2021), https://arxiv.org/abs/2104.08691. We differ: sizes near that
        of one vector, one grid of rates and one budget of steps for all adapters; a random start,
        and few steps.
    """
    return adapters(context, config)


register_adapter(
    config=PromptTuning,
    find=prompt_tuning,
    title="Prompt tuning",
    summary="trained embeddings before the prompt (peft)",
    papers=(
        Paper(
            "Lester, Al-Rfou, Constant",
            2021,
            "The Power of Scale for Parameter-Efficient Prompt Tuning",
            "https://arxiv.org/abs/2104.08691",
        ),
    ),
    fails="Random embeddings first disturb the model; with few steps a small model may not "
    "even get back to its zero-shot accuracy.",
)
