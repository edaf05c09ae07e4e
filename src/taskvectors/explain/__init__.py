"""Why it works: how a model uses a vector, one analysis a file.

An analysis is a pure function of a model, prompts and a vector; it returns a small frozen dataclass
with `to_frame()` and `figure()`, and refuses a vector for which its formula has no meaning.
`ANALYSES` is the one registry; a test walks it.
"""

from taskvectors.explain.bijections import bijections
from taskvectors.explain.case import Analysis, Case, Result
from taskvectors.explain.composition import composition
from taskvectors.explain.geometry import geometry
from taskvectors.explain.interpolation import interpolation
from taskvectors.explain.propagation import propagation
from taskvectors.explain.rotation import rotation
from taskvectors.explain.transfer import transfer

_LTV = "Yang et al. 2026, arXiv 2509.24169"

ANALYSES: dict[str, Analysis] = {
    "propagation": Analysis(
        run=propagation,
        title="Linear propagation",
        question="Is what a vector becomes at the last block a linear map of it?",
        source=_LTV,
    ),
    "rotation": Analysis(
        run=rotation,
        title="Rotation and scaling",
        question="Does the way to the last block turn a vector into the labels, or stretch it?",
        source=_LTV,
    ),
    "geometry": Analysis(
        run=geometry,
        title="Geometry",
        question="Do vectors of one task lie together, and those of different tasks apart?",
        source=_LTV,
        needs="vectors",
    ),
    "transfer": Analysis(
        run=transfer,
        title="Transfer",
        question="What does a vector do in tasks that it was not made for?",
        source=_LTV,
        needs="vectors",
    ),
    "composition": Analysis(
        run=composition,
        title="Composition",
        question="Do two vectors together do both of their tasks?",
        source=_LTV,
        needs="vectors",
    ),
    "interpolation": Analysis(
        run=interpolation,
        title="Interpolation",
        question="What lies between the vectors of two tasks?",
        source=_LTV,
        needs="vectors",
    ),
    "bijections": Analysis(
        run=bijections,
        title="Bijections",
        question="Can one learned vector map both ways?",
        source="Dong et al. 2026, arXiv 2506.09048",
        needs="vectors",
    ),
}
"""Analyses by the name the command line uses, in the order of the report."""

__all__ = ["ANALYSES", "Analysis", "Case", "Result"]
