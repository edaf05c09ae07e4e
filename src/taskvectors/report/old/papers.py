"""A run for a paper: its tables as Markdown, or as LaTeX with booktabs."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from taskvectors.errors import require_package
from taskvectors.format import MINUS, SPACE
from taskvectors.report.old import facts, tables
from taskvectors.report.old.compared import AnyRun
from taskvectors.report.old.experiment import ExperimentRun
from taskvectors.report.old.experiment_tables import grids_of_experiment
from taskvectors.report.old.explain_pages import pages, vector_in_words
from taskvectors.report.old.explanation import ExplanationRun
from taskvectors.report.old.grid import Cell, Column, Grid, plain_texts
from taskvectors.report.old.html_report import written
from taskvectors.report.old.run import Run
from taskvectors.report.old.run_figures import run_figures
from taskvectors.report.old.verdict import headline
from taskvectors.results.figures import AnyFigure

_HEADINGS = (
    "method", "where", "seed", "accuracy", "difference from ICL", "examples", "parameters", "time",
    "n", "remark",
)  # fmt: skip
_WORDS = {"method", "where", "remark"}
_IN_LATEX = {MINUS: "$-$", SPACE: "~", "\N{EN DASH}": "--", "\N{HORIZONTAL ELLIPSIS}": "..."}


def write_markdown(run: AnyRun) -> Path:
    """What a run found, as `report.md` in its folder; figures are linked where they were drawn.

    Raises:
        DataError: The run cannot be shown.
    """
    title, paragraphs = _said(run)
    parts = [f"# {title}", *paragraphs]
    for grid in grids_of(run):
        parts += [f"## {grid.title}", *grid.before, _markdown(grid), *grid.after]
    for figure in _figures(run):
        path = Path("figures") / f"{figure.name}.png"
        if (run.folder / path).is_file():
            parts.append(f"![{figure.title}]({path.as_posix()})")
            parts += [figure.caption] if figure.caption else []
    command = facts.command(run.config)
    if command:
        parts.append(f"Command: `{command}`")
    versions = ", ".join(f"{fact.name} {fact.value}" for fact in facts.environment(run.config))
    if versions:
        parts.append(f"Software: {versions}.")
    return written(run.folder / "report.md", "\n\n".join(parts) + "\n")


def write_latex(run: AnyRun) -> Path:
    """The tables of a run, as `tables.tex` in its folder: to be included where booktabs is loaded.

    Raises:
        DataError: The run cannot be shown.
        TaskVectorsError: jinja2, which pandas writes LaTeX with, is not installed.
    """
    require_package("jinja2", "demo", "tables in LaTeX")
    title, _ = _said(run)
    parts = [f"% {title}", "% needs \\usepackage{booktabs}"]
    parts += [_latex(grid) for grid in grids_of(run)]
    return written(run.folder / "tables.tex", "\n".join(parts))


def grids_of(run: AnyRun) -> list[Grid]:
    """The tables of a run."""
    if isinstance(run, ExperimentRun):
        return grids_of_experiment(run)
    if isinstance(run, ExplanationRun):
        return [page.grid for page in pages(run) if page.grid.cells]
    found = {"results": tables.main_rows(run), "controls": tables.control_rows(run)}
    return [_of_methods(name, rows) for name, rows in found.items() if rows]


def _said(run: AnyRun) -> tuple[str, list[str]]:
    """The title of a run, and its sentences."""
    config = run.config
    if isinstance(run, ExperimentRun):
        sentences = [
            str(config["question"]),
            f"{config['paper']}. What the paper did: {config['what_the_paper_did']}",
            f"What is done otherwise here: {config['what_we_do_otherwise']}",
            *(f"Warning: {text}" for text in config.get("warnings") or []),
        ]
        return str(config["title"]), sentences
    title = f"{config['task']} on {config['model']}"
    if isinstance(run, Run):
        said = headline(run)
        return title, [text for text in (said.sentence, said.verdict, *said.cautions) if text]
    found = [f"**{page.title}.** {page.sentence}" for page in pages(run)]
    return f"{title}: why the vector works", [
        f"How the model uses {vector_in_words(config)}.",
        *found,
    ]


def _figures(run: AnyRun) -> Sequence[AnyFigure]:
    if isinstance(run, ExplanationRun):
        return [one.figure for one in run.analyses if one.figure is not None]
    return run_figures(run) if isinstance(run, Run) else run.figures


def _of_methods(name: str, rows: Sequence[tables.MethodRow]) -> Grid:
    """The main table of a comparison, or its controls."""
    lines = []
    for row in rows:
        texts = (
            row.name, row.where, row.seed, row.accuracy, row.difference, row.examples,
            row.parameters, row.seconds, row.n, row.error or row.note or row.outcome,
        )  # fmt: skip
        intervals = {"accuracy": row.interval, "difference from ICL": row.difference_interval}
        lines.append(
            tuple(
                Cell(
                    text=text,
                    sort=text,
                    is_number=heading not in _WORDS,
                    interval=f"[{intervals[heading]}]" if intervals.get(heading) else "",
                )
                for heading, text in zip(_HEADINGS, texts, strict=True)
            )
        )
    kept = [i for i, _ in enumerate(_HEADINGS) if any(line[i].text for line in lines)]
    return Grid(
        name=name,
        title=name.capitalize(),
        columns=tuple(
            Column(name=_HEADINGS[i], is_number=_HEADINGS[i] not in _WORDS) for i in kept
        ),
        cells=tuple(tuple(line[i] for i in kept) for line in lines),
    )


def _markdown(grid: Grid) -> str:
    headings, rows = plain_texts(grid)
    rules = ["--:" if column.is_number else "---" for column in grid.columns]
    lines = [headings, rules, *rows]
    escaped = [[text.replace("|", r"\|").replace("\n", " ") for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _latex(grid: Grid) -> str:
    headings, rows = plain_texts(grid)
    frame = pd.DataFrame(rows, columns=headings)
    drawn = frame.style.hide(axis="index").format(escape="latex")
    text = drawn.format_index(escape="latex", axis="columns").to_latex(
        hrules=True,
        column_format="".join("r" if column.is_number else "l" for column in grid.columns),
        caption=_escaped(" ".join([f"{grid.title}.", *grid.before, *grid.after])),
        label=f"tab:{grid.name}",
    )
    for character, command in _IN_LATEX.items():
        text = text.replace(character, command)
    return str(text)


def _escaped(text: str) -> str:
    """Text in which LaTeX sees no command; pandas escapes cells and headings itself."""
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
