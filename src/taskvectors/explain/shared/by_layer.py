"""One analysis at every layer that a case has a vector at, as one table and one figure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from taskvectors.explain.shared.analysis import VECTOR_LAYER, Analysis, Result
from taskvectors.explain.shared.case import Case
from taskvectors.explain.shared.layer_fits import layered_vectors
from taskvectors.results.figures import AnyFigure
from taskvectors.vectors import TaskVector


@dataclass(frozen=True, kw_only=True, eq=False)
class ByLayer:
    """What an analysis found at several layers; the explained vector's comes first."""

    analysis: Analysis
    found: Mapping[int, Result]

    def to_frame(self) -> pd.DataFrame:
        """The rows of all layers, with the layer of the vector."""
        frames = [
            result.to_frame().assign(**{VECTOR_LAYER: layer})
            for layer, result in self.found.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def figure(self) -> AnyFigure:
        """The analysis' figure over layers."""
        assert self.analysis.over_layers is not None
        return self.analysis.over_layers(self.to_frame())


def at_each_layer(analysis: Analysis, case: Case) -> Result:
    """What is found of a case's vector or, where it has the like at other layers, of each of them.

    Another task's vector, a control at the explained vector's layer, belongs to that one alone.

    Args:
        analysis: The analysis.
        case: The vectors, and the prompts.

    Raises:
        TaskVectorsError: The analysis has no meaning for one of them.
    """
    vectors = layered_vectors(case) if len(case.vector.sites) == 1 else (case.vector,)
    if len(vectors) == 1:
        return analysis.find(case)
    found = {case.vector.layers[0]: analysis.find(case)}
    for vector in sorted(vectors, key=lambda vector: vector.layers):
        if vector is not case.vector:
            found[vector.layers[0]] = analysis.find(_alone(case, vector))
    return ByLayer(analysis=analysis, found=found)


def _alone(case: Case, vector: TaskVector) -> Case:
    """The case of one of its other vectors, the same for every analysis."""
    return case.cached(
        f"case of {id(vector)}",
        lambda: replace(case, vector=vector, vectors=(vector,), other=None, _memo={}),
    )
