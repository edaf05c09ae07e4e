"""Why it works: how a model uses a vector, one analysis a file.

An analysis is a pure function of a model, prompts and a vector; it returns a small frozen dataclass
with `to_frame()` and `figure()`, and refuses a vector for which its formula has no meaning.
`ANALYSES` is the one registry; a test walks it.
"""

from taskvectors.explain.case import Analysis, Case, Result

ANALYSES: dict[str, Analysis] = {}
"""Analyses by the name the command line uses, in the order of the report."""

__all__ = ["ANALYSES", "Analysis", "Case", "Result"]
