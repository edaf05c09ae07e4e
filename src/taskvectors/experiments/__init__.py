"""What is run: methods on one task, analyses of one vector, and their folders on disk."""

from taskvectors.experiments.compare import check_any_ran, compare, comparison_json
from taskvectors.experiments.config import CompareConfig, ModelConfig
from taskvectors.experiments.experiment import (
    Experiment,
    GroupResult,
    Preset,
    RunUnit,
    WorkDir,
    register,
)
from taskvectors.experiments.explain import ExplainConfig, explain

__all__ = [
    "CompareConfig",
    "Experiment",
    "ExplainConfig",
    "GroupResult",
    "ModelConfig",
    "Preset",
    "RunUnit",
    "WorkDir",
    "check_any_ran",
    "compare",
    "comparison_json",
    "explain",
    "register",
]
