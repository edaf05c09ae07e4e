"""What is run: a comparison of methods on one task, and its folder on disk."""

from taskvectors.experiments.compare import Comparison, compare
from taskvectors.experiments.config import CompareConfig, ModelConfig

__all__ = ["CompareConfig", "Comparison", "ModelConfig", "compare"]
