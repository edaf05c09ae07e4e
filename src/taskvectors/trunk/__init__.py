"""The engine: what an intervention cannot change is computed once, and only the branches run."""

from taskvectors.trunk.batch import Batch
from taskvectors.trunk.edits import Branch, Edit, Operation, Position
from taskvectors.trunk.engine import AnswerScores, Trunk
from taskvectors.trunk.memory import (
    Shape,
    logits_that_fit,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)

__all__ = [
    "AnswerScores",
    "Batch",
    "Branch",
    "Edit",
    "Operation",
    "Position",
    "Shape",
    "Trunk",
    "logits_that_fit",
    "prompts_that_fit",
    "resolve_budget",
    "shape_of",
]
