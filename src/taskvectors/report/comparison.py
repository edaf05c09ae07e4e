"""The page of a comparison: the methods, accuracy by layer, the controls, answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from taskvectors.format import (
    ABSENT,
    after_layers,
    at_positions,
    percent,
    percent_range,
    plural,
    points,
    points_range,
    whole,
)
from taskvectors.progress import format_duration
from taskvectors.report.comparison_figures import comparison_figures
from taskvectors.report.metadata import cautions, cite, method_name, setup
from taskvectors.report.page import Page, Section, Text
from taskvectors.report.summary import (
    NULL_CONTROLS,
    MethodSummary,
    method_summary,
    of_seeds,
    shown_rows,
    subject,
    summary,
)
from taskvectors.report.table import NOTHING, Bar, Cell, Table, frame_table, table_of
from taskvectors.results.pivot import ComparisonRow, comparison_rows
from taskvectors.results.record import AnsweredItem, Record

_READ = (
    "Share of test items answered in full, with 95 % intervals: Wilson's, over several seeds a "
    "bootstrap; the layer was chosen on validation items. Difference: paired, in percentage "
    "points. The time of a learned vector is that of all vectors that were tried for it."
)
_CONTROLS = (
    "Controls are baselines that a vector which works has to stand above, and rows that show what "
    "more demonstrations, or fewer examples, would give."
)
_ANSWERS = "Answers to test items, in the order of the run; none was picked by hand."
_ROWS = (
    "Every candidate, under the names that compare --json gives; shares are between 0 and 1. "
    "Columns without any value are not shown. Click on a name to sort by it."
)


def comparison_page(record: Record) -> Page:
    """The page of a comparison."""
    rows = comparison_rows(record.frame)
    said = summary(rows)
    metadata = record.metadata
    layers, learning = comparison_figures(record, rows)
    controls = method_table(record, rows, controls=True)
    parts: list[tuple[str, str, tuple[Any, ...]]] = [
        ("results", "Results", (Text(text=_READ, is_aside=True), method_table(record, rows))),
        ("by-layer", "Accuracy by layer", layers),
        ("controls", "Controls", (Text(text=_CONTROLS, is_aside=True), controls)
         if controls.rows else ()),
        ("examples", "Example answers", (Text(text=_ANSWERS, is_aside=True), _answers(record))
         if record.examples else ()),
        ("learning", "Learning", learning),
    ]  # fmt: skip
    sections = [Section(name=name, title=t, blocks=blocks) for name, t, blocks in parts if blocks]
    sections.append(setup(record))
    notes = _notes(record, rows)
    said_in_rows = {*notes, *(f"{row.method}: {row.error}" for row in rows if row.error)}
    if notes:
        texts = tuple(Text(text=note) for note in notes)
        sections.append(Section(name="notes", title="Notes", blocks=texts))
    candidates = pd.DataFrame([row.as_dict() for row in rows])
    everything = frame_table(
        "rows", "All measurements", candidates, heading=str, before=(_ROWS,), is_folded=True
    )
    sections.append(Section(name="rows", title="All measurements", blocks=(everything,)))
    works = cite(record)
    return Page(
        kicker="Task vectors",
        title=f"{metadata['task']} on {metadata['model']}",
        headline=said.headline,
        verdict=said.verdict,
        cautions=(*cautions(record, said_in_rows), *said.cautions),
        sections=(*sections, *((works,) if works else ())),
    )


def method_table(record: Record, rows: Sequence[ComparisonRow], *, controls: bool = False) -> Table:
    """The methods of a comparison, or its controls: a row each."""
    main, icl = subject(rows), method_summary(rows, "icl")
    shown = shown_rows(rows, controls=controls)
    n_seeds = len({row.seed for row in of_seeds(rows)})
    columns: dict[str, list[Cell]] = {}
    for row in shown:
        cells = {
            "control" if controls else "method": Cell(
                text=method_name(record.metadata, row.method), detail=where(row)
            ),
            "seed": NOTHING if n_seeds < 2 else Cell(text=_seed(row), is_number=True),
            "accuracy": _share(row),
            "difference from ICL": _difference(row),
            "examples": _count(row.examples),
            "parameters": _count(row.parameters),
            "time": NOTHING if row.seconds is None else _time(seconds_of(row, rows)),
            "test items": _count(row.n),
            "what it is": _what(record, row) if controls else NOTHING,
            "outcome": _outcome(row, main) if controls else NOTHING,
            "remark": Cell(text=_remark(row)) if _remark(row) else NOTHING,
        }
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    return table_of(
        "controls" if controls else "methods",
        "Controls" if controls else "Results by method",
        columns,
        strong=frozenset(
            number for number, row in enumerate(shown)
            if main is not None and not controls and row.method == main.first.method
        ),
        line=None if icl is None else icl.accuracy,
        after=("The dashed line in each bar is in-context learning.",) if icl else (),
    )  # fmt: skip


def seconds_of(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> float | None:
    """What a row took; vectors that are learned side by side count as the one that was chosen."""
    if row.steps is None or row.is_control:
        return row.seconds
    of_seed: dict[int, float] = {}
    for one in rows:
        if one.method == row.method and one.seed is not None and one.seconds:
            of_seed[one.seed] = of_seed.get(one.seed, 0.0) + one.seconds
    if not of_seed:
        return row.seconds
    return sum(of_seed.values()) / len(of_seed) if row.seed is None else of_seed.get(row.seed)


def where(row: ComparisonRow) -> str:
    """Where a row's vector is added, how strongly, and how many demonstrations its prompts show."""
    parts = []
    if row.layers:
        parts += [after_layers(row.layers), at_positions(row.positions)]
        if row.strength not in (None, 1):
            parts.append(f"strength {row.strength:g}")
    elif row.configuration and row.seed is not None:
        parts.append(row.configuration)
    if row.preset and row.preset not in parts:
        parts.append(row.preset)
    if row.shots:
        parts.append("1 shot" if row.shots == 1 else f"{row.shots} shots")
    return ", ".join(part for part in dict.fromkeys(parts) if part)


def _what(record: Record, row: ComparisonRow) -> Cell:
    """What a control is, as its registry row says it."""
    about = (record.metadata.get("methods") or {}).get(row.method) or {}
    return Cell(text=str(about["summary"])) if about.get("summary") else NOTHING


def _seed(row: ComparisonRow) -> str:
    return "all" if row.seed is None else f"{row.seed}"


def _share(row: ComparisonRow) -> Cell:
    if row.accuracy is None:
        return NOTHING
    ends = percent_range(row.ci_low, row.ci_high, 1)
    low = row.accuracy if row.ci_low is None else row.ci_low
    high = row.accuracy if row.ci_high is None else row.ci_high
    return Cell(
        text=percent(row.accuracy, 1),
        sort=repr(row.accuracy),
        is_number=True,
        interval=f"[{ends}]" if ends else "",
        bar=Bar(low=low, value=row.accuracy, high=high),
    )


def _difference(row: ComparisonRow) -> Cell:
    if row.difference_to_icl is None:
        return NOTHING
    ends = points_range(row.difference_low, row.difference_high, 1)
    return Cell(
        text=points(row.difference_to_icl, 1),
        sort=repr(row.difference_to_icl),
        is_number=True,
        interval=f"[{ends}]" if ends else "",
    )


def _count(count: int | None) -> Cell:
    return NOTHING if count is None else Cell(text=whole(count), sort=str(count), is_number=True)


def _time(seconds: float | None) -> Cell:
    if seconds is None:
        return NOTHING
    return Cell(text=format_duration(seconds), sort=repr(seconds), is_number=True)


def _remark(row: ComparisonRow) -> str:
    if row.error:
        return f"failed: {row.error}"
    improving = "still improving when its steps ran out" if row.converged is False else ""
    return "; ".join(filter(None, (improving, row.note or "")))


def _outcome(row: ComparisonRow, main: MethodSummary | None) -> Cell:
    """Where a control stands beside the vector, judged by their intervals."""
    if row.error or main is None:
        return NOTHING
    rival = next((held for held in main.rows if held.seed == row.seed), main.pooled or main.first)
    is_below = _lies_below(row, rival)
    if row.method not in NULL_CONTROLS:
        if is_below or _lies_below(rival, row):
            return Cell(text=f"{'below' if is_below else 'above'} the vector")
        return Cell(text="about level with the vector")
    if is_below:
        return Cell(text="ruled out", mark="yes")
    if row.accuracy is not None and rival.accuracy is not None and row.accuracy < rival.accuracy:
        return Cell(text="not clearly ruled out: the intervals overlap", mark="open")
    return Cell(text="not ruled out: the control does as well", mark="no")


def _lies_below(row: ComparisonRow, other: ComparisonRow) -> bool:
    """Whether a row's whole interval is below another's."""
    return row.ci_high is not None and other.ci_low is not None and row.ci_high < other.ci_low


def _answers(record: Record) -> Table:
    """Test items, and what each method said."""
    methods = list(dict.fromkeys(name for item in record.examples for name in item.predictions))
    methods.sort(key=lambda name: {"zero-shot": 0, "learned": 1}.get(name, 2))
    columns = {
        "input": [Cell(text=item.input) for item in record.examples],
        "expected": [Cell(text=item.answer) for item in record.examples],
    } | {
        method_name(record.metadata, method): [_answer(item, method) for item in record.examples]
        for method in methods
    }
    return table_of("answers", "Example answers", columns)


def _answer(item: AnsweredItem, method: str) -> Cell:
    text = item.predictions.get(method)
    if text is None:
        return NOTHING
    is_right: Mapping[bool | None, Any] = {True: "yes", False: "no", None: ""}
    return Cell(text=text.strip() or "(nothing)", mark=is_right[item.correct.get(method)])


def _notes(record: Record, rows: Sequence[ComparisonRow]) -> list[str]:
    """Remarks of the run, and layers that were still improving."""
    found = [str(note) for note in record.metadata.get("notes") or []]
    stopped = [row for row in rows if row.converged is False and not row.is_control]
    if stopped:
        layers = dict.fromkeys(", ".join(map(str, row.layers)) or ABSENT for row in stopped)
        found.append(
            f"{plural(len(stopped), 'candidate').capitalize()} still improving when the steps ran "
            f"out, at layers: {', '.join(layers)}."
        )
    return list(dict.fromkeys(found))
