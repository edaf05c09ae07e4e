"""Runs side by side: where they were asked for different things, and what each of them found.

Nothing is subtracted: runs of different models are read beside each other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.errors import DataError
from taskvectors.format import in_words
from taskvectors.report.old.experiment import ExperimentRun
from taskvectors.report.old.experiment_tables import failures_of_experiment, parts_of_experiment
from taskvectors.report.old.explain_pages import pages
from taskvectors.report.old.explanation import ExplanationRun
from taskvectors.report.old.facts import settings
from taskvectors.report.old.grid import NOTHING, Cell, Column, Grid, cell_of
from taskvectors.report.old.long_table import Cases, cases_of
from taskvectors.report.old.run import Run
from taskvectors.report.old.run_figures import run_figures
from taskvectors.results.figures import AnyFigure

AnyRun = Run | ExplanationRun | ExperimentRun

_KINDS: dict[type, str] = {
    Run: "a comparison",
    ExplanationRun: "analyses of a vector",
    ExperimentRun: "an experiment",
}
_MEASURES = (
    "accuracy", "first_token_accuracy", "label_accuracy", "in_label_set", "answer_logprob",
)  # fmt: skip
_ABOUT = ("method", "configuration", "layers", "seed", "preset")
_NO_SETTINGS = {"asked", "analyses", "notes", "warnings", "versions", "started", "finished"}


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one run has to show in a part of the page."""

    name: str
    sentence: str = ""
    is_refused: bool = False
    figure: AnyFigure | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the page."""

    anchor: str
    title: str
    grids: tuple[Grid, ...] = ()
    sides: tuple[Side, ...] = ()


def names_of(runs: Sequence[AnyRun]) -> list[str]:
    """A name for each run, no two alike: the end of its folder's path, as much as tells them apart.

    Several of one folder are numbered.
    """
    paths = [run.folder.resolve().parts for run in runs]
    depths = range(1, max(map(len, paths)) + 1)
    ends = ([str(Path(*path[-depth:])) for path in paths] for depth in depths)
    n_distinct = len(set(paths))
    names = next(names for names in ends if len(set(names)) == n_distinct)
    return [
        f"{name} ({index + 1})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def kind_of(runs: Sequence[AnyRun]) -> str:
    """What all of some runs are.

    Raises:
        DataError: They are not all of one kind, or are experiments with different names.
    """
    kinds = [_kind(run) for run in runs]
    if len(set(kinds)) > 1:
        said = ", ".join(f"{run.folder} is {kind}" for run, kind in zip(runs, kinds, strict=True))
        raise DataError(f"runs of different kinds have no common table: {said}; name runs of one")
    return kinds[0]


def differences(runs: Sequence[AnyRun]) -> Grid:
    """Settings that are not the same in all runs."""
    names = names_of(runs)
    by_run = [{fact.name: fact.value for fact in settings(_settings(run.config))} for run in runs]
    known = dict.fromkeys(name for one in by_run for name in one)
    rows = []
    for name in known:
        values = [one.get(name) for one in by_run]
        if len(set(values)) > 1:
            texts = [name, *(NOTHING.text if value is None else value for value in values)]
            rows.append(tuple(Cell(text=text, sort=text, is_number=False) for text in texts))
    return Grid(
        name="differences",
        title="Settings that differ",
        columns=tuple(Column(name=name, is_number=False) for name in ("setting", *names)),
        cells=tuple(rows),
        after=() if rows else ("All settings are the same.",),
    )


def parts_of(runs: Sequence[AnyRun]) -> list[Part]:
    """The parts of the page below the settings.

    Raises:
        DataError: The runs are not of one kind.
    """
    kind_of(runs)
    names = names_of(runs)
    if isinstance(runs[0], ExplanationRun):
        return _analyses([run for run in runs if isinstance(run, ExplanationRun)], names)
    experiments = [run for run in runs if isinstance(run, ExperimentRun)]
    comparisons = [run for run in runs if isinstance(run, Run)]
    grids = (
        _of_experiments(experiments, names) if experiments else _of_comparisons(comparisons, names)
    )
    figures = [run.figures for run in experiments] or [run_figures(run) for run in comparisons]
    titles = dict.fromkeys(figure.title for some in figures for figure in some)
    return [
        Part(anchor="results", title="Results", grids=grids),
        *(
            _figure_part(f"figure-{number}", title, figures, names)
            for number, title in enumerate(titles, start=1)
        ),
    ]


def _kind(run: AnyRun) -> str:
    kind = _KINDS[type(run)]
    return f"{kind} ({run.config['experiment']})" if isinstance(run, ExperimentRun) else kind


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _NO_SETTINGS}


def _analyses(runs: Sequence[ExplanationRun], names: Sequence[str]) -> list[Part]:
    by_run = [{page.name: page for page in pages(run)} for run in runs]
    parts = []
    for name in dict.fromkeys(name for one in by_run for name in one):
        sides = []
        for index, one in enumerate(by_run):
            page = one.get(name)
            if page is None:
                sides.append(Side(name=names[index], sentence="Was not run.", is_refused=True))
                continue
            sides.append(
                Side(
                    name=names[index],
                    sentence=page.sentence,
                    is_refused=page.is_refused,
                    figure=page.figure and _numbered(page.figure, index + 1),
                )
            )
        title = next(one[name].title for one in by_run if name in one)
        parts.append(Part(anchor=name, title=title, sides=tuple(sides)))
    return parts


def _figure_part(
    anchor: str, title: str, figures: Sequence[Sequence[AnyFigure]], names: Sequence[str]
) -> Part:
    """Figures with one title; their names may hold the model's."""
    sides, numbers = [], count(1)
    for name, some in zip(names, figures, strict=True):
        found = [figure for figure in some if figure.title == title]
        if not found:
            sides.append(Side(name=name, sentence="Has no such figure.", is_refused=True))
        sides += [Side(name=name, figure=_numbered(figure, next(numbers))) for figure in found]
    return Part(anchor=anchor, title=title, sides=tuple(sides))


def _numbered(figure: AnyFigure, number: int) -> AnyFigure:
    """A figure under a name of its own on the page."""
    return replace(figure, name=f"{figure.name}-{number}")


def _of_experiments(runs: Sequence[ExperimentRun], names: Sequence[str]) -> tuple[Grid, ...]:
    """The tables of an experiment, joined by their titles, and what could not be run."""
    by_run = [{part.title: part for part in parts_of_experiment(run)} for run in runs]
    grids: list[Grid] = []
    for title in dict.fromkeys(title for one in by_run for title in one):
        parts = [one[title] for one in by_run if title in one]
        tables = [one[title].rows if title in one else parts[0].rows.iloc[:0] for one in by_run]
        leave_out = _own(tables).union(*(part.leave_out for part in parts))
        wanted = tuple(dict.fromkeys(name for part in parts for name in part.wanted))
        grids += _results(title, tables, names, leave_out, wanted)
    for name, run in zip(names, runs, strict=True):
        grids += [
            replace(grid, title=f"{grid.title}: {name}", before=(f"{grid.title} ({name}):",))
            for grid in failures_of_experiment(run)
        ]
    return _named_apart(grids)


def _of_comparisons(runs: Sequence[Run], names: Sequence[str]) -> tuple[Grid, ...]:
    """The measures of comparisons; layers and configuration, which a run chose, name no case."""
    tables = [_long(run) for run in runs]
    leave_out = _own(tables) | {"configuration", "layers"}
    return _named_apart(_results("", tables, names, leave_out, ()))


def _named_apart(grids: Sequence[Grid]) -> tuple[Grid, ...]:
    return tuple(replace(grid, name=f"results-{n}") for n, grid in enumerate(grids, start=1))


def _long(run: Run) -> pd.DataFrame:
    """The results of a comparison, one row per measurement."""
    shown = run.rows[[_is_shown(record) for record in run.rows.to_dict("records")]]
    lines = []
    for record in shown.to_dict("records"):
        about = {name: record.get(name) for name in _ABOUT}
        for measure in _MEASURES:
            if cell_of(measure, record.get(measure)) is NOTHING:
                continue
            is_main = measure == "accuracy"
            lines.append(
                about
                | {
                    "measure": measure,
                    "value": record[measure],
                    "low": record.get("ci_low") if is_main else None,
                    "high": record.get("ci_high") if is_main else None,
                    "n": record.get("n"),
                }
            )
    return pd.DataFrame(lines)


def _is_shown(record: Mapping[Any, Any]) -> bool:
    """Whether a row is a choice or a control, and no candidate that was not chosen."""
    return any(record.get(flag) is True for flag in ("selected", "preset_selected", "is_control"))


def _results(
    title: str,
    tables: Sequence[pd.DataFrame],
    names: Sequence[str],
    leave_out: Collection[str],
    wanted: Sequence[str],
) -> list[Grid]:
    """One table for each measure: a row per case, a column per run."""
    all_cases = [
        cases_of(table, leave_out, [name for name in wanted if name in table]) for table in tables
    ]
    joined = _aligned(tables, all_cases)
    measures = dict.fromkeys(measure for one in all_cases for measure in one.measures)
    return [_grid(title, measure, joined, names) for measure in measures]


def _own(tables: Sequence[pd.DataFrame]) -> set[str]:
    """Columns in which each run holds one value of its own, its model, say: no case's name."""
    own = set()
    for name in set.intersection(*(set(map(str, table.columns)) for table in tables)):
        held = [{cell_of(name, value).text for value in table[name]} for table in tables]
        if all(len(values) == 1 for values in held) and len(set.union(*held)) > 1:
            own.add(name)
    return own


@dataclass(frozen=True, kw_only=True)
class _Joined:
    keys: tuple[str, ...]
    cells: Mapping[tuple[str, ...], tuple[Cell, ...]]
    found: Mapping[tuple[str, ...], list[Mapping[str, Cell]]]


def _aligned(tables: Sequence[pd.DataFrame], all_cases: Sequence[Cases]) -> _Joined:
    """Cases of all runs by the keys that any run needs."""
    keys = tuple(dict.fromkeys(key for cases in all_cases for key in cases.keys))
    keys = tuple(key for key in keys if all(key in table for table in tables))
    cells: dict[tuple[str, ...], tuple[Cell, ...]] = {}
    found: dict[tuple[str, ...], list[Mapping[str, Cell]]] = {}
    for index, cases in enumerate(all_cases):
        for key, record in cases.records.items():
            shown = tuple(cell_of(name, record[name]) for name in keys)
            place = (*(cell.text for cell in shown), *key[len(cases.keys) :])
            cells.setdefault(place, shown)
            found.setdefault(place, [{} for _ in all_cases])[index] = cases.found[key]
    return _Joined(keys=keys, cells=cells, found=found)


def _grid(title: str, measure: str, joined: _Joined, names: Sequence[str]) -> Grid:
    headings = [Column(name=in_words(key), is_number=False) for key in joined.keys]
    headings += [Column(name=name, is_number=True) for name in names]
    rows = [
        (*joined.cells[key], *(cells.get(measure, NOTHING) for cells in by_run))
        for key, by_run in joined.found.items()
        if any(measure in cells for cells in by_run)
    ]
    said = ": ".join(filter(None, (title.partition(":")[0], in_words(measure))))
    return Grid(
        name=measure,
        title=said,
        columns=tuple(headings),
        cells=tuple(rows),
        before=(f"{said}.",),
    )
