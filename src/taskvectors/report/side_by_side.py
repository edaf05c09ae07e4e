"""Runs side by side: where they were asked for different things, and what each of them found.

Nothing is subtracted: runs of different models are read beside each other.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.errors import DataError
from taskvectors.format import ABSENT, in_words
from taskvectors.report.analyses import analyses_page
from taskvectors.report.cases import Cases, cases_of
from taskvectors.report.comparison_figures import accuracy_by_run, comparison_figures
from taskvectors.report.experiment_tables import failures_of, parts_of
from taskvectors.report.metadata import asked, cautions, settings
from taskvectors.report.page import Beside, Page, Section, Text
from taskvectors.report.table import NOTHING, Cell, Column, Table, value_cell
from taskvectors.results.figures import AnyFigure
from taskvectors.results.pivot import comparison_rows
from taskvectors.results.record import Record, chosen

_KINDS = {
    "compare": "a comparison",
    "explain": "a run of analyses",
    "experiment": "an experiment",
    "train": "a training of learners",
    "evaluate": "an evaluation",
}
_MEASURES = frozenset(
    {"accuracy", "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob"}
)
"""Measures of a comparison that stand side by side."""
_CHOSEN = frozenset(
    {"configuration", "layers", "strength", "correct", "selected", "preset_selected", "candidate",
     "is_control", "converged", "note", "error", "group", "row"}
)  # fmt: skip
"""Columns that name no case of a comparison: what a run chose, or says of a row."""
_CHANGES = frozenset({"started", "finished", "seconds", "estimate"})
"""Settings that differ between any two runs."""


def side_by_side(records: Sequence[Record]) -> Page:
    """Several runs in one page.

    Raises:
        DataError: The runs are not of one kind.
    """
    kind = _kind_of_all(records)
    names = names_of(records)
    warned = dict.fromkeys(_of_different(records))
    warned |= {f"{name}: {text}": None for name, one in zip(names, records, strict=True)
              for text in cautions(one)}  # fmt: skip
    differing = _differences(records, names)
    same = Text(text="All settings are the same.")
    first = Section(
        name="runs", title="Where the runs differ", blocks=(differing if differing.rows else same,)
    )
    if records[0].kind == "explain":
        opening: list[Section] = []
        parts = _analyses(records, names)
    else:
        tables = _measurements(records, names)
        opening, charts = _opening(records, names)
        parts = [Section(name="results", title="Results", blocks=tables), *charts]
    return Page(
        kicker="Side by side",
        title=", ".join(names),
        headline=f"{len(records)} runs side by side, each {kind}.",
        verdict="Values stand beside each other; none is subtracted.",
        cautions=tuple(warned),
        sections=(*opening, first, *parts),
    )


def _opening(
    records: Sequence[Record], names: Sequence[str]
) -> tuple[list[Section], list[Section]]:
    """The section with the figure that the page opens with, and those of the other figures."""
    charts = _charts(records, names)
    if records[0].kind != "compare":
        return charts[:1], charts[1:]
    figure = accuracy_by_run(dict(zip(names, records, strict=True)))
    opening = Section(name="accuracy", title="The runs in one figure", blocks=(figure,))
    return [opening], charts


def _of_different(records: Sequence[Record]) -> Iterator[str]:
    """That runs are of different tasks or models, since a difference may be theirs."""
    for name in ("task", "model"):
        held = [one.metadata.get(name) or one.metadata.get(f"{name}s") or () for one in records]
        said = [one if isinstance(one, str) else ", ".join(map(str, one)) for one in held]
        if all(said) and len(set(said)) > 1:
            yield (
                f"The runs are of different {name}s ({'; '.join(dict.fromkeys(said))}): what "
                f"differs between them may be the {name}."
            )


def names_of(records: Sequence[Record]) -> list[str]:
    """A name for each run, no two alike: the end of its folder's path, as much as tells them apart.

    Several of one folder, and those without a folder, are numbered.
    """
    paths = [(one.folder or Path("run")).resolve().parts for one in records]
    depths = range(1, max(map(len, paths)) + 1)
    ends = ([str(Path(*path[-depth:])) for path in paths] for depth in depths)
    n_distinct = len(set(paths))
    names = next(names for names in ends if len(set(names)) == n_distinct)
    return [
        f"{name} ({index + 1})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def _kind_of_all(records: Sequence[Record]) -> str:
    kinds = []
    for one in records:
        experiment = one.metadata.get("experiment")
        kinds.append(_KINDS[one.kind] + (f" ({experiment})" if experiment else ""))
    if len(set(kinds)) > 1:
        pairs = zip(names_of(records), kinds, strict=True)
        said = ", ".join(f"{name} is {kind}" for name, kind in pairs)
        raise DataError(f"runs of different kinds have no common table: {said}; name runs of one")
    return kinds[0]


def _differences(records: Sequence[Record], names: Sequence[str]) -> Table:
    """Settings that are not the same in all runs."""
    by_run = []
    for one in records:
        metadata = {key: value for key, value in one.metadata.items() if key not in _CHANGES}
        by_run.append(asked(metadata) | settings(metadata))
    known = dict.fromkeys(name for one in by_run for name in one)
    rows = [[name, *(one.get(name, ABSENT) for one in by_run)] for name in known]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    return Table(
        name="differences",
        title="Settings that differ",
        columns=tuple(Column(name=name) for name in ("setting", *names)),
        rows=tuple(tuple(Cell(text=text) for text in row) for row in differing),
    )


def _analyses(records: Sequence[Record], names: Sequence[str]) -> list[Section]:
    """The figures of each analysis side by side, and below each other the tables."""
    by_run = [{one.name: one for one in analyses_page(record).sections} for record in records]
    figures = [{figure.name: figure for figure in record.figures} for record in records]
    known = [one["name"] for record in records for one in record.metadata["analyses"]]
    parts = []
    for name in dict.fromkeys(known):
        sides: list[tuple[str, AnyFigure | str]] = []
        tables: list[Table] = []
        for number, run in enumerate(names):
            section = by_run[number].get(name)
            if section is None:
                sides.append((run, "Was not run."))
                continue
            refused = [b.text for b in section.blocks if isinstance(b, Text) and b.is_caution]
            drawn = figures[number].get(name)
            sides.append((run, drawn or " ".join(refused) or "Has no figure."))
            tables += [
                replace(block, name=f"{block.name}-{number}", title=f"{block.title}: {run}")
                for block in section.blocks
                if isinstance(block, Table)
            ]
        title = next(one[name].title for one in by_run if name in one)
        parts.append(Section(name=name, title=title, blocks=(Beside(sides=tuple(sides)), *tables)))
    return parts


def _charts(records: Sequence[Record], names: Sequence[str]) -> list[Section]:
    """Figures with one title, side by side; their names may hold the model's."""
    by_run: list[Sequence[AnyFigure]] = []
    for record in records:
        if record.kind == "compare":
            layers, learning = comparison_figures(record, comparison_rows(record.frame))
            by_run.append((*layers, *learning))
        else:
            by_run.append(record.figures)
    titles = dict.fromkeys(figure.title for figures in by_run for figure in figures)
    parts = []
    for number, title in enumerate(titles, start=1):
        sides: list[tuple[str, AnyFigure | str]] = []
        for name, figures in zip(names, by_run, strict=True):
            same = [figure for figure in figures if figure.title == title]
            sides += [(name, figure) for figure in same] or [(name, "Has no such figure.")]
        blocks = (Beside(sides=tuple(sides)),)
        parts.append(Section(name=f"figure-{number}", title=title, blocks=blocks))
    return parts


def _measurements(records: Sequence[Record], names: Sequence[str]) -> tuple[Table, ...]:
    """A table for each measure, joined by title, and what could not be run."""
    if records[0].kind == "compare":
        tables = [chosen(record.frame) for record in records]
        tables = [table[table["measure"].isin(_MEASURES)] for table in tables]
        return _named_apart(_joined("", tables, names, _own(tables) | _CHOSEN, ()))
    by_run = [{part.title: part for part in parts_of(record)} for record in records]
    found: list[Table] = []
    for title in dict.fromkeys(title for one in by_run for title in one):
        parts = [one[title] for one in by_run if title in one]
        tables = [one[title].rows if title in one else parts[0].rows.iloc[:0] for one in by_run]
        leave_out = _own(tables).union(*(part.leave_out for part in parts))
        wanted = tuple(dict.fromkeys(name for part in parts for name in part.wanted))
        found += _joined(title, tables, names, leave_out, wanted)
    for name, record in zip(names, records, strict=True):
        found += [replace(one, title=f"{one.title}: {name}") for one in failures_of(record)]
    return _named_apart(found)


def _named_apart(tables: Sequence[Table]) -> tuple[Table, ...]:
    return tuple(replace(table, name=f"results-{n}") for n, table in enumerate(tables, start=1))


def _joined(
    title: str,
    tables: Sequence[pd.DataFrame],
    names: Sequence[str],
    leave_out: Collection[str],
    wanted: Sequence[str],
) -> list[Table]:
    """One table for each measure: a row per case, a column per run."""
    all_cases = [
        cases_of(table, leave_out, [name for name in wanted if name in table]) for table in tables
    ]
    aligned = _aligned(tables, all_cases)
    measures = dict.fromkeys(measure for one in all_cases for measure in one.measures)
    return [_table(title, measure, aligned, names) for measure in measures]


def _own(tables: Sequence[pd.DataFrame]) -> set[str]:
    """Columns in which each run holds one value of its own, its model, say: no case's name."""
    own = set()
    for name in set.intersection(*(set(map(str, table.columns)) for table in tables)):
        held = [{value_cell(name, value).text for value in table[name]} for table in tables]
        if all(len(values) == 1 for values in held) and len(set.union(*held)) > 1:
            own.add(name)
    return own


@dataclass(frozen=True, kw_only=True)
class _Aligned:
    keys: tuple[str, ...]
    cells: Mapping[tuple[str, ...], tuple[Cell, ...]]
    found: Mapping[tuple[str, ...], list[Mapping[str, Cell]]]


def _aligned(tables: Sequence[pd.DataFrame], all_cases: Sequence[Cases]) -> _Aligned:
    """Cases of all runs by the keys that any run needs."""
    keys = tuple(dict.fromkeys(key for cases in all_cases for key in cases.keys))
    keys = tuple(key for key in keys if all(key in table for table in tables))
    cells: dict[tuple[str, ...], tuple[Cell, ...]] = {}
    found: dict[tuple[str, ...], list[Mapping[str, Cell]]] = {}
    for index, cases in enumerate(all_cases):
        for key, record in cases.records.items():
            shown = tuple(value_cell(name, record[name]) for name in keys)
            place: Any = (*(cell.text for cell in shown), *key[len(cases.keys) :])
            cells.setdefault(place, shown)
            found.setdefault(place, [{} for _ in all_cases])[index] = cases.found[key]
    return _Aligned(keys=keys, cells=cells, found=found)


def _table(title: str, measure: str, aligned: _Aligned, names: Sequence[str]) -> Table:
    headings = [Column(name=in_words(key)) for key in aligned.keys]
    headings += [Column(name=name, is_number=True) for name in names]
    rows = [
        (*aligned.cells[key], *(cells.get(measure, NOTHING) for cells in by_run))
        for key, by_run in aligned.found.items()
        if any(measure in cells for cells in by_run)
    ]
    return Table(
        name=measure,
        title=": ".join(filter(None, (title.partition(":")[0], in_words(measure)))),
        columns=tuple(headings),
        rows=tuple(rows),
    )
