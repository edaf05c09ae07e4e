"""`bitfit`: the model's own biases, trained, the model frozen."""

from typing import Literal

from taskvectors.errors import TaskVectorsError
from taskvectors.methods.shared.adapters import AdapterConfig, Size, adapters, register_adapter
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.method import Paper
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import LanguageModel
from taskvectors.models.adapters import Adapter, BiasAdapter, biased_modules


class BitFit(AdapterConfig):
    """The biases that a model has."""

    kind: Literal["bitfit"] = "bitfit"

    def build(self, model: LanguageModel, size: Size, seed: int) -> Adapter:
        """All biases of one block, or of all blocks."""
        del seed
        modules = biased_modules(model, self.layers(model, size))
        if not modules:
            raise TaskVectorsError(
                f"bitfit has no meaning for {model.source}: its blocks have no biases. A trained "
                "bias of the residual stream is `learned` at the position `all`."
            )
        return BiasAdapter(modules=tuple(modules))

    def describe(self, size: Size, layer: int) -> str:
        """Place."""
        return f"biases of block {layer}" if size == "matched" else "biases of all blocks"


def bitfit(context: RunContext, config: BitFit) -> list[Candidate]:
    """One candidate per size, at the best of the learning rates.

    Source: Ben Zaken et al. (2021), https://arxiv.org/abs/2106.10199. We differ: sizes near
        that of one vector, one grid of rates and one budget of steps for all adapters; no
        classifier is trained beside it.
    """
    return adapters(context, config)


register_adapter(
    config=BitFit,
    find=bitfit,
    title="BitFit",
    summary="the model's own biases, trained",
    papers=(
        Paper(
            "Ben Zaken, Ravfogel, Goldberg",
            2021,
            "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked "
            "Language-models",
            "https://arxiv.org/abs/2106.10199",
        ),
    ),
    fails="A model without biases has nothing to train; a bias acts on all positions alike.",
)
