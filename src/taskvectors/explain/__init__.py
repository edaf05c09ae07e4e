"""Why it works: how a model uses a vector, one analysis a file.

Each file here is an analysis, named after it, and ends in what registers it: question, function,
columns, figure, caption, cost. `shared/` has the mathematics that several use. To add your own:
`taskvectors.explain.register(Analysis(...))`, or an entry point of the group
`taskvectors.analyses`.
"""

from taskvectors.explain.shared.analysis import Analysis, Curve, Line, Result, in_lines
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.cost import Sizes
from taskvectors.registry import ANALYSES as _ANALYSES
from taskvectors.registry import Registry
from taskvectors.results import Columns

ANALYSES: Registry[Analysis] = _ANALYSES
"""Analyses by the name the command line uses."""
register = ANALYSES.register

__all__ = [
    "ANALYSES",
    "Analysis",
    "Case",
    "Columns",
    "Curve",
    "Line",
    "Result",
    "Sizes",
    "in_lines",
    "register",
]
