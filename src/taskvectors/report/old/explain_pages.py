"""The parts of the page of a run of analyses: one for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskvectors.format import after_layers, at_positions
from taskvectors.report.old.explanation import Analysed, ExplanationRun
from taskvectors.report.old.grid import Grid, grid_of
from taskvectors.results.figures import AnyFigure

_MOST_ROWS = 400
"""More rows than that are left to the table on disk."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One analysis as a reader sees it."""

    name: str
    title: str
    question: str
    source: str
    sentence: str
    """Its main numbers, or why there are none."""
    is_refused: bool
    figure: AnyFigure | None
    grid: Grid
    """Its numbers."""


def pages(run: ExplanationRun) -> list[Page]:
    """A page for every analysis of a run, in its order."""
    return [_page(one) for one in run.analyses]


def vector_in_words(config: Mapping[str, Any]) -> str:
    """Which vector is explained, as part of a sentence."""
    method = config["method"] or "given"
    return (
        f"the {method} vector of {config['task']}, added {after_layers(config['layers'])}, "
        f"{at_positions(config['positions'])}"
    )


def remarks(config: Mapping[str, Any]) -> list[str]:
    """What a reader has to keep in mind about the model."""
    if not config["weights_note"]:
        return []
    found = [str(config["weights_note"])]
    heads, shared = config["n_heads"], config["n_key_value_heads"]
    if shared < heads:
        found.append(
            f"{heads} heads a layer share {shared} key-value head{'s' if shared > 1 else ''}: "
            "heads that share one have the same W_V."
        )
    return found


def _page(one: Analysed) -> Page:
    shown = one.rows.head(_MOST_ROWS)
    n_left_out = len(one.rows) - len(shown)
    after = (f"{n_left_out} more rows are in results.parquet.",) if n_left_out else ()
    return Page(
        name=one.name,
        title=one.title,
        question=one.question,
        source=one.source,
        sentence=one.error or one.summary,
        is_refused=one.error is not None,
        figure=one.figure,
        grid=grid_of(one.name, f"All numbers of {one.title}", shown, after=after),
    )
