"""Every table and figure of the two papers, and two surveys of our own, each declared as data.

An experiment is in the file of what it is about. `EXPERIMENTS` is the one registry, which a test
walks.
"""

from taskvectors.experiments.catalog import (
    behaviours,
    comparisons,
    language,
    learners,
    mechanism,
    surveys,
    vectors,
)
from taskvectors.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        *comparisons.ALL,
        *surveys.ALL,
        *mechanism.ALL,
        *vectors.ALL,
        *behaviours.ALL,
        *learners.ALL,
        *language.ALL,
    )
}
"""By the name that the command line uses."""

__all__ = ["EXPERIMENTS"]
