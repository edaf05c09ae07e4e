"""The engine: what an intervention cannot change is computed once, and only the branches run."""

from taskvectors.trunk.answers import AnswerScores
from taskvectors.trunk.batch import Batch
from taskvectors.trunk.cache import TrunkCache
from taskvectors.trunk.edits import Branch, Edit, Operation, Position
from taskvectors.trunk.engine import Trunk
from taskvectors.trunk.full_forward import FullForward
from taskvectors.trunk.memory import (
    Shape,
    logits_that_fit,
    prompts_that_fit,
    resolve_budget,
    shape_of,
)
from taskvectors.trunk.reading import read_heads, read_states

__all__ = [
    "AnswerScores",
    "Batch",
    "Branch",
    "Edit",
    "FullForward",
    "Operation",
    "Position",
    "Shape",
    "Trunk",
    "TrunkCache",
    "logits_that_fit",
    "prompts_that_fit",
    "read_heads",
    "read_states",
    "resolve_budget",
    "shape_of",
]
