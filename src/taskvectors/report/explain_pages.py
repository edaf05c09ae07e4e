"""The pages of a run of analyses: one for each, and its figures as files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.figures import AnyFigure
from taskvectors.report.explanation import Analysed, ExplanationRun
from taskvectors.report.findings import finding
from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.report.wording import ABSENT, after_layers, at_positions

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
    """What the figure shows, or why there is none."""
    is_refused: bool
    figure: AnyFigure | None
    columns: tuple[tuple[str, bool], ...]
    """Names, and whether they hold numbers."""
    cells: Sequence[Sequence[str]]
    n_left_out: int
    """Rows that are in the table on disk alone."""


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


def write_figures(run: ExplanationRun, forms: Sequence[str]) -> list[Path]:
    """Every figure of a run as files in its folder `figures`.

    Args:
        run: The run.
        forms: File endings: `png`, `svg`, `pdf`.

    Raises:
        TaskVectorsError: matplotlib is not installed, or knows no such form.
    """
    folder = run.folder / "figures"
    folder.mkdir(exist_ok=True)
    return [
        draw_matplotlib(one.figure, folder / f"{one.name}.{form}")
        for one in run.analyses
        if one.figure is not None
        for form in forms
    ]


def _page(one: Analysed) -> Page:
    shown = one.rows.head(_MOST_ROWS)
    numeric = {name for name in shown.columns if pd.api.types.is_numeric_dtype(shown[name])}
    return Page(
        name=one.name,
        title=one.title,
        question=one.question,
        source=one.source,
        sentence=one.error or finding(one.name, one.rows),
        is_refused=one.error is not None,
        figure=one.figure,
        columns=tuple((str(name), name in numeric) for name in shown.columns),
        cells=[[_cell(value) for value in row] for row in shown.itertuples(index=False)],
        n_left_out=len(one.rows) - len(shown),
    )


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
