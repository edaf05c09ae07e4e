"""`function-vector-attribution`: a function vector whose heads are found to first order.

One forward and one backward pass over the label-shuffled prompts give (mean - z) · ∂p/∂z of every
head at once. How well that ranks the heads is said with every result, against the exact effects.
"""

from typing import Literal

from taskvectors.methods.candidate import Candidate
from taskvectors.methods.function_vector import HeadChoice, average_effects, summed_heads
from taskvectors.methods.indirect_effect import rank_correlation
from taskvectors.methods.run_context import RunContext


class FunctionVectorAttribution(HeadChoice):
    """Heads by the first-order approximation of their average indirect effect."""

    kind: Literal["function-vector-attribution"] = "function-vector-attribution"


def function_vector_attribution(
    context: RunContext, config: FunctionVectorAttribution
) -> list[Candidate]:
    """One candidate per layer, strength and number of heads.

    The cost is that of the approximation; the exact effects are worked out besides, to report how
    the two rank heads.

    Raises:
        TaskVectorsError: More heads are asked for than the model has.

    Source: attribution patching as in Syed et al. (2023), https://arxiv.org/abs/2310.10348, for the
        heads of Todd et al. (2024), https://arxiv.org/abs/2310.15213. We differ: the effect is on
        the probability of the answer's first token, at the last token only.
    """
    effects, cost = average_effects(context, config, "attributed")
    exact, _ = average_effects(context, config, "exact")
    agreement = rank_correlation(effects.flatten(), exact.flatten())
    note = f"rank correlation of attributed with exact effects {agreement:.2f}"
    return summed_heads(
        context, config, effects, cost, note=note, rank_correlation_with_exact=agreement
    )
