"""What is run: methods on one task, analyses of one vector, and their folders on disk."""

from taskvectors.experiments.compare import Comparison, compare
from taskvectors.experiments.config import CompareConfig, ModelConfig
from taskvectors.experiments.explain import ExplainConfig, Explanation, explain

__all__ = [
    "CompareConfig",
    "Comparison",
    "ExplainConfig",
    "Explanation",
    "ModelConfig",
    "compare",
    "explain",
]
