"""The results of an experiment as the tables of a paper: methods down, tasks or measures across.

Measurements that share cases make a table, those of each analysis apart. A published value stands
in a column beside ours, with its source and its model, and nothing is worked out of the two.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from taskvectors.format import ABSENT, in_words
from taskvectors.report.cases import (
    MEASURED,
    USUAL_KEYS,
    Key,
    cases_of,
    measured,
    over_seeds,
    with_smallest,
)
from taskvectors.report.published import Beside, alone, for_rows, published_cell, sources
from taskvectors.report.table import NOTHING, Cell, Column, Table, frame_table, value_cell
from taskvectors.results.record import NOT_READ, OVER_TASKS, Record, chosen

_MOST_MEASURES_BY_TASK = 2
"""A table of each measure with a column per task is drawn of so many; of more, one of measures."""
_NEVER_KEYS = frozenset(
    {*MEASURED, "experiment", "analysis", "group", "correct", "selected", "is_control",
     "converged", "note", "error", "text", "learner", "preset", "tvp_layer", "preset_selected",
     "candidate", "row"}  # the method names it
)  # fmt: skip
_CHOSEN_BY_TASK = ("layers", "positions", "shots", "strength", "cell")
"""What a task may have chosen for itself: it names a row only where nothing else does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TablePart:
    """Measurements that stand in one table."""

    title: str
    rows: pd.DataFrame
    leave_out: frozenset[str]
    """Columns that say nothing here."""
    wanted: tuple[str, ...]
    """Columns of its own that say what a row is."""
    measures: tuple[str, ...]


def tables_of(record: Record) -> list[Table]:
    """The tables of an experiment, and published values that nothing of ours stands beside.

    Candidates that were not chosen are left out, but where an experiment is about them; they are
    among all measurements.
    """
    placed = set[int]()
    published = for_rows(record.published, _rows_to_show(record))
    drawn: list[Table] = []
    for part in parts_of(record):
        drawn += _tables(part, published, placed)
    drawn += failures_of(record)
    named = [
        replace(table, name="results" if i == 0 else f"results-{i + 1}")
        for i, table in enumerate(drawn)
    ]
    if named:
        named[-1] = replace(named[-1], after=sources(published, placed))
    read = [one for one in published if one.published.value != NOT_READ]
    return [*named, *alone([one for one in read if id(one) not in placed])]


def parts_of(record: Record) -> list[TablePart]:
    """Its measurements by table."""
    rows = _rows_to_show(record)
    shown = record.metadata.get("shown") or ()
    return _parts(rows[~_is_failure(rows)], str(record.metadata["title"]), shown)


def failures_of(record: Record) -> list[Table]:
    """What could not be run, and why; no table where all could."""
    rows = _rows_to_show(record)
    failed = rows[_is_failure(rows)]
    if failed.empty:
        return []
    names = [name for name in ("task", "method", "configuration", "error") if name in rows]
    return [frame_table("failures", "Could not be run", failed[names].drop_duplicates())]


def _is_failure(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["value"].isna() & rows["measure"].eq("error")


def _rows_to_show(record: Record) -> pd.DataFrame:
    """Measurements for its tables.

    Tokens of one lens are together. Without candidates that were not chosen, but where they are
    what it is about; and without the means over one task and one seed, which say the same again.
    """
    rows = with_smallest(_with_tokens_together(record.frame))
    if not record.metadata.get("shows_candidates"):
        rows = chosen(rows)
    if "task" not in rows or "seed" not in rows:
        return rows
    means = rows["task"].eq(OVER_TASKS)
    alone = rows.loc[~means, ["task", "seed"]].drop_duplicates()
    return rows[~means] if len(alone) == 1 else rows


def _with_tokens_together(rows: pd.DataFrame) -> pd.DataFrame:
    """Tokens that one state reads as in one row, in their order, and not a row for each."""
    if "text" not in rows or rows["text"].isna().all():
        return rows
    is_token = rows["text"].notna()
    tokens = rows[is_token]
    own = {"text", "at", "value", "low", "high", "configuration"}
    by = [name for name in map(str, rows) if name not in own]
    numbers = tokens.groupby(by, dropna=False, sort=False).ngroup()
    words = tokens["text"].str.strip().groupby(numbers).agg(", ".join)
    first = tokens[~numbers.duplicated()].assign(text=numbers.map(words), at=None)
    return pd.concat([rows[~is_token], first]).sort_index()


def _parts(rows: pd.DataFrame, title: str, shown: Sequence[str]) -> list[TablePart]:
    """Tables with measures that the experiment is about come first, and hold only those.

    Further ones are of the numbers that analyses give beside them.
    """
    found = []
    analyses = rows["analysis"].fillna("") if "analysis" in rows else pd.Series("", rows.index)
    for analysis, of_analysis in rows.groupby(analyses, sort=False):
        further = [name for name in map(str, rows) if name not in {*_NEVER_KEYS, *USUAL_KEYS}]
        words = in_words(str(analysis))
        # rows of learners and of analyses have a column for whatever their configuration says
        has_columns = bool(analysis) or "tvp_layer" in rows
        said = {"configuration"} if has_columns else set()
        by = [name for name in (*USUAL_KEYS, *further) if name in rows and name not in said]
        for measures in _together(of_analysis, by):
            part = of_analysis[of_analysis["measure"].isin(measures)]
            main = [measure for measure in measures if measure in shown]
            if main:
                part = part[part["measure"].isin(main)]
            wanted = [name for name in further if has_columns and part[name].notna().any()]
            said_here = said | ({"layers"} if "layer" in wanted else set())
            one = TablePart(
                title=words[:1].upper() + words[1:] if analysis else title,
                rows=part,
                leave_out=_NEVER_KEYS | said_here,
                wanted=tuple(wanted),
                measures=tuple(main or measures),
            )
            found.append((bool(main), bool(analysis), one))
    is_about_some = any(is_main for is_main, *_ in found)
    kept = [one for one in found if one[0] or one[1] or not is_about_some]
    parts = [part for *_, part in sorted(kept, key=lambda one: not one[0])]
    titles = [part.title for part in parts]
    return [
        replace(part, title=f"{part.title}: {', '.join(map(in_words, part.measures))}")
        if part.title in titles[:i]
        else part
        for i, part in enumerate(parts)
    ]


def _together(rows: pd.DataFrame, by: Sequence[str]) -> list[list[str]]:
    """Measures in groups: two that some case has both of are in one."""
    groups: list[set[str]] = []
    for _, measures in rows.groupby(list(by), dropna=False, sort=False)["measure"]:
        joined = set(measures)
        apart = [group for group in groups if not group & joined]
        groups = [*apart, joined.union(*(group for group in groups if group & joined))]
    order = list(dict.fromkeys(rows["measure"]))
    return sorted(
        (sorted(group, key=order.index) for group in groups),
        key=lambda group: order.index(group[0]),
    )


def _tables(part: TablePart, published: Sequence[Beside], placed: set[int]) -> Iterator[Table]:
    usual = [name for name in (*USUAL_KEYS, *part.wanted) if name in part.rows]
    rows, n_pooled = over_seeds(part.rows, [name for name in usual if name not in part.leave_out])
    part = replace(part, rows=rows)
    said = (
        f"Rows over all seeds stand for {n_pooled} of single seeds, which are among all "
        "measurements.",
    ) * bool(n_pooled)
    tasks = list(dict.fromkeys(map(str, rows["task"]))) if "task" in rows else []
    names = _names_of_rows(part)
    if len(tasks) > 1 and names and len(part.measures) <= _MOST_MEASURES_BY_TASK:
        tables = [_by_task(part, one, tasks, names, published, placed) for one in part.measures]
    else:
        tables = [_by_measure(part, published, placed)]
    for table in tables:
        yield replace(table, before=(*table.before, *said))


def _names_of_rows(part: TablePart) -> list[str]:
    """Columns that name a row where each task has a column; none if no column does."""
    rows, own = part.rows, {"task", *_CHOSEN_BY_TASK}
    if "seed" in rows and rows["seed"].nunique() <= 1:
        own.add("seed")  # means over tasks have none
    named = (*USUAL_KEYS, *part.wanted)
    names = [n for n in named if n in rows and n not in own and n not in part.leave_out]
    names = [name for name in names if rows[name].nunique(dropna=False) > 1]
    for name in (*_CHOSEN_BY_TASK, None):
        if names and not rows.duplicated([*names, "task", "measure"]).any():
            return names
        if name is not None and name in rows and rows[name].nunique(dropna=False) > 1:
            names.append(name)
    return []


def _by_task(
    part: TablePart,
    measure: str,
    tasks: Sequence[str],
    names: Sequence[str],
    published: Sequence[Beside],
    placed: set[int],
) -> Table:
    """A row per case, a column per task."""
    rows = part.rows[part.rows["measure"] == measure]
    records: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in rows.to_dict("records")
    ]
    lines: dict[Key, dict[str, Cell]] = {}
    keys: dict[Key, tuple[Cell, ...]] = {}
    counts = rows["n"] if "n" in rows else pd.Series(None, rows.index, dtype="Int64")
    same_n = {task: _only(counts[rows["task"].eq(task)]) for task in tasks}
    beside = {task: f"{task}, published" for task in tasks}
    for record in records:
        cells = tuple(value_cell(name, record[name]) for name in names)
        key, task = tuple(cell.text for cell in cells), str(record["task"])
        keys.setdefault(key, cells)
        line = lines.setdefault(key, {})
        line[task] = measured(record, with_n=same_n[task] is None)
        found = published_cell(published, measure, record, placed)
        if found is not None:
            line[beside[task]] = found
    columns = [
        name for task in tasks for name in (task, beside[task])
        if any(name in line for line in lines.values())
    ]  # fmt: skip
    numbers = ", ".join(f"{task} {n}" for task, n in same_n.items() if n is not None)
    same = [
        f"{in_words(name)} {texts.pop()}"
        for name in USUAL_KEYS
        if name in rows
        and name not in {"task", *names, *part.leave_out}
        and len(texts := {value_cell(name, value).text for value in rows[name].dropna()}) == 1
        and texts != {ABSENT}
    ]
    said = f"{in_words(measure)}, by task." + (f" Items: {numbers}." if numbers else "")
    said += f" Throughout: {', '.join(same)}." if same else ""
    return Table(
        name=measure,
        title=f"{part.title.partition(':')[0]}: {in_words(measure)}",
        columns=(
            *(Column(name=in_words(name), is_number=False) for name in names),
            *(Column(name=name, is_number=_are_numbers(name, lines)) for name in columns),
        ),
        rows=tuple(
            (*keys[key], *(line.get(name, NOTHING) for name in columns))
            for key, line in lines.items()
        ),
        before=(said,),
    )


def _are_numbers(column: str, lines: Mapping[Key, Mapping[str, Cell]]) -> bool:
    """Whether a column holds any number."""
    return any(column in line and line[column].is_number for line in lines.values())


def _only(values: pd.Series) -> int | None:
    """The one number that all have."""
    return int(values.iloc[0]) if values.notna().all() and values.nunique() == 1 else None


def _by_measure(part: TablePart, published: Sequence[Beside], placed: set[int]) -> Table:
    """A row per case, a column per measure."""
    cases = cases_of(part.rows, part.leave_out, part.wanted)
    headings = [Column(name=in_words(key), is_number=False) for key in cases.keys]
    beside: dict[str, dict[Key, Cell]] = {}
    for measure in cases.measures:
        found = {
            key: published_cell(published, measure, cases.records[key], placed)
            for key in cases.found
            if measure in cases.found[key]
        }
        beside[measure] = {key: cell for key, cell in found.items() if cell is not None}
        is_number = _are_numbers(measure, cases.found)
        headings.append(Column(name=in_words(measure), is_number=is_number))
        if beside[measure]:
            headings.append(Column(name=f"{in_words(measure)}, published", is_number=False))
    throughout = [
        f"{in_words(name)} {cell.text}"
        for name, cell in cases.throughout.items()
        if cell is not NOTHING
    ]
    lines = []
    for key, found_here in cases.found.items():
        line = list(cases.cells[key])
        for measure in cases.measures:
            line.append(found_here.get(measure, NOTHING))
            if beside[measure]:
                line.append(beside[measure].get(key, NOTHING))
        lines.append(tuple(line))
    return Table(
        name="results",
        title=part.title,
        columns=tuple(headings),
        rows=tuple(lines),
        before=(f"Throughout: {', '.join(throughout)}.",) if throughout else (),
    )
