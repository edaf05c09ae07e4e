"""Does it work: scores, the measures made of them, and how far they can be trusted."""

from taskvectors.evaluate.divergence import next_token_divergence
from taskvectors.evaluate.labels import Labels
from taskvectors.evaluate.measures import Measures, label_starts, label_tokens, measure
from taskvectors.evaluate.measuring import dose_response, evaluate
from taskvectors.evaluate.scoring import (
    Scores,
    score,
    score_alike,
    score_whole,
    score_with,
)
from taskvectors.evaluate.side_effects import SideEffects, side_effects
from taskvectors.evaluate.statistics import (
    Difference,
    Orders,
    PValue,
    orders,
    paired_difference,
    pooled_interval,
    wilson_interval,
)

__all__ = [
    "Difference",
    "Labels",
    "Measures",
    "Orders",
    "PValue",
    "Scores",
    "SideEffects",
    "dose_response",
    "evaluate",
    "label_starts",
    "label_tokens",
    "measure",
    "next_token_divergence",
    "orders",
    "paired_difference",
    "pooled_interval",
    "score",
    "score_alike",
    "score_whole",
    "score_with",
    "side_effects",
    "wilson_interval",
]
