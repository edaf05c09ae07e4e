"""The verbs as calls of Python: each runs what the command line's verb runs, and gives a value.

Arguments are as kind as they can be without a guess: a task is a `Task` or what `load_task` takes,
a vector a `TaskVector` or its folder, a place one number or several.
"""

from taskvectors.api.generation import Generation, generate
from taskvectors.api.halves import aggregate
from taskvectors.api.result import RunResult
from taskvectors.api.runs import compare, explain, reproduce, train

__all__ = [
    "Generation",
    "RunResult",
    "aggregate",
    "compare",
    "explain",
    "generate",
    "reproduce",
    "train",
]
