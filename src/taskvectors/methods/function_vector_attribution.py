"""`function-vector-attribution`: a function vector whose heads are found to first order.

One forward and one backward pass over the label-shuffled prompts give (mean - z) · ∂p/∂z of every
head at once. How well that ranks the heads is said with every result, against the exact effects.
"""

from typing import Literal

from taskvectors.methods.function_vector import (
    TODD,
    HeadChoice,
    average_effects,
    plan_of_heads,
    shuffled_prompts,
    summed_heads,
)
from taskvectors.methods.shared.candidate import Candidate
from taskvectors.methods.shared.indirect_effect import rank_correlation
from taskvectors.methods.shared.method import METHODS, Method, Paper
from taskvectors.methods.shared.plan import Plan
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.trunk.work import work_of


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


def _plan(context: RunContext, config: FunctionVectorAttribution) -> Plan:
    attribution = work_of(
        "attribution",
        shuffled_prompts(context, config),
        (-1,),
        [-1],
        context.model.n_layers,
        is_training=True,
        keeps="results",
    )
    return plan_of_heads(context, config, attribution)


METHODS.register(
    Method(
        config=FunctionVectorAttribution,
        find=function_vector_attribution,
        plan=_plan,
        title="Function vector, by attribution",
        summary="the same, the heads found by one forward and one backward pass",
        papers=(
            Paper(
                "Syed, Rager, Conmy",
                2023,
                "Attribution Patching Outperforms Automated Circuit Discovery",
                "https://arxiv.org/abs/2310.10348",
            ),
            TODD,
        ),
        fails="Where the answer's probability is near 0 or 1, its slope says little about a whole "
        "step.",
        quick={"n_prompts": 4, "n_effect_prompts": 2, "n_heads": (3,)},
    )
)
