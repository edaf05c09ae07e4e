"""A run, or several, as one HTML file that works offline.

The page holds its style, its script and plotly.js; its content policy forbids it to ask any server
for anything. Text from the run is escaped by the template.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from taskvectors.report.old import facts, tables
from taskvectors.report.old.compared import AnyRun, differences, kind_of, names_of, parts_of
from taskvectors.report.old.experiment import ExperimentRun, read_experiment
from taskvectors.report.old.experiment_tables import grids_of_experiment
from taskvectors.report.old.explain_pages import pages, remarks, vector_in_words
from taskvectors.report.old.explanation import ExplanationRun, is_explanation, read_explanation
from taskvectors.report.old.figure_files import draw_files
from taskvectors.report.old.grid import grid_of, without_empty
from taskvectors.report.old.page import fill
from taskvectors.report.old.run import Run, read_run
from taskvectors.report.old.run_figures import run_figures
from taskvectors.report.old.standing import seeds_of, standing
from taskvectors.report.old.verdict import headline
from taskvectors.report.old.wording import method_name

FILE_NAME = "report.html"
COMPARED_NAME = "compared.html"
_SHOWN = (
    "model", "family", "dtype", "weights_note", "task", "template", "shots", "seed", "seconds",
    "vector", "method", "other_vector", "n_layers", "n_heads", "n_key_value_heads",
)  # fmt: skip
"""Settings of a run of analyses that its page names."""
_OF_EXPERIMENT = (
    "models", "tasks", "seeds", "preset", "device", "dtype", "started", "finished", "seconds",
)  # fmt: skip
_ELSEWHERE = {
    "experiment", "title", "question", "paper", "what_the_paper_did", "what_we_do_otherwise",
    "warnings", "asked", "shown", "shows_candidates", "model", "task",
}  # fmt: skip
"""Keys of an experiment's config that stand in other parts of its page, and what it was asked."""


def read_any(folder: Path) -> AnyRun:
    """The run in a folder, whatever kind of run it is.

    Raises:
        DataError: The folder does not hold a readable run.
    """
    if is_explanation(folder):
        return read_explanation(folder)
    return read_experiment(folder) if _is_experiment(folder) else read_run(folder)


def write_report(folder: Path) -> Path:
    """The report of a run, written into its folder whole or not at all.

    Args:
        folder: A run folder.

    Returns:
        Path of `report.html`.

    Raises:
        DataError: The folder does not hold a readable run.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    return written(folder / FILE_NAME, render_any(read_any(folder)))


def write_compared(folders: Sequence[Path], path: Path | None = None) -> Path:
    """Several runs side by side in one page, written whole or not at all.

    Args:
        folders: Run folders, of runs of one kind.
        path: Where to; `compared.html` in the first folder by default.

    Raises:
        DataError: A folder does not hold a readable run, or the runs are not of one kind.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    text = render_compared([read_any(folder) for folder in folders])
    return written(path or folders[0] / COMPARED_NAME, text)


def write_figures(run: AnyRun, forms: Sequence[str]) -> list[Path]:
    """Every figure of a run as files in its folder `figures`.

    Args:
        run: The run.
        forms: File endings: `png`, `svg`, `pdf`.

    Raises:
        TaskVectorsError: matplotlib is not installed, or knows no such form.
    """
    if isinstance(run, ExplanationRun):
        figures = [one.figure for one in run.analyses if one.figure is not None]
    else:
        figures = list(run_figures(run) if isinstance(run, Run) else run.figures)
    return draw_files(figures, run.folder / "figures", forms) if figures else []


def render_any(run: AnyRun) -> str:
    """The page of a run as text."""
    if isinstance(run, ExplanationRun):
        return render_explanation(run)
    return render_experiment(run) if isinstance(run, ExperimentRun) else render(run)


def render(run: Run) -> str:
    """The page of a comparison as text: one HTML document with everything it needs inside.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    figures = run_figures(run)
    methods, examples = tables.example_rows(run)
    rows, empty = tables.full_table(run)
    notes = facts.notes(run, empty)
    icl = standing(run, "icl")
    return fill(
        "report.html",
        figures,
        title=f"{run.config['task']} · {run.config['model']} · task vectors",
        config=run.config,
        headline=headline(run),
        settings=facts.settings(run.config),
        versions=facts.environment(run.config),
        command=facts.command(run.config),
        notes=notes,
        sources=facts.sources(run),
        sections=facts.sections(run, figures, bool(notes)),
        main=tables.main_rows(run),
        controls=tables.control_rows(run),
        has_seeds=len(seeds_of(run)) > 1,
        icl_share=None if icl is None else 100 * icl.accuracy,
        example_methods=[method_name(name) for name in methods],
        examples=examples,
        example_summary=tables.example_summary(run),
        rows=rows,
    )


def render_explanation(run: ExplanationRun) -> str:
    """The page of a run of analyses as text: a part for each, with its sentence and figure.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    parts = pages(run)
    sections = [facts.Section(anchor=one.name, title=one.title) for one in parts]
    return fill(
        "explain.html",
        [one.figure for one in run.analyses if one.figure is not None],
        title=f"{run.config['task']} · {run.config['model']} · why the vector works",
        config=run.config,
        remarks=remarks(run.config),
        where=vector_in_words(run.config),
        pages=parts,
        sections=[*sections, facts.Section(anchor="setup", title="What was run")],
        command="",
        settings=facts.settings({k: v for k, v in run.config.items() if k in _SHOWN}),
        versions=facts.environment(run.config),
    )


def render_experiment(run: ExperimentRun) -> str:
    """The page of an experiment as text: its question, tables, figures, and how it was run.

    Raises:
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    config = run.config
    rows, empty = without_empty(run.rows)
    names = {
        "about": "What was done",
        "results": "Results",
        "figures": "Figures" if run.figures else "",
        "setup": "What was run",
        "rows": "All measurements",
    }
    first = {name: config[name] for name in _OF_EXPERIMENT if name in config}
    further = {name: value for name, value in config.items() if name not in _ELSEWHERE}
    left_out = f"Columns without any value are not shown: {', '.join(empty)}."
    return fill(
        "experiment.html",
        run.figures,
        title=f"{config['experiment']} · {config['title']}",
        config=config,
        warnings=[str(text) for text in config.get("warnings") or []],
        sections=[facts.Section(anchor=key, title=name) for key, name in names.items() if name],
        grids=grids_of_experiment(run),
        command=facts.command(config),
        settings=facts.settings(first | further),
        versions=facts.environment(config),
        rows=grid_of("rows", "All measurements", rows, after=(left_out,) if empty else ()),
    )


def render_compared(runs: Sequence[AnyRun]) -> str:
    """The page of several runs as text.

    Raises:
        DataError: The runs are not of one kind.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    parts = parts_of(runs)
    names = names_of(runs)
    sections = [facts.Section(anchor=part.anchor, title=part.title) for part in parts]
    return fill(
        "compared.html",
        [side.figure for part in parts for side in part.sides if side.figure is not None],
        title=f"{', '.join(names)} · side by side",
        names=names,
        about=f"Each is {kind_of(runs)}. Values stand beside each other; none is subtracted.",
        sections=[facts.Section(anchor="runs", title="Where the runs differ"), *sections],
        differences=differences(runs),
        parts=parts,
    )


def _is_experiment(folder: Path) -> bool:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the reader of comparisons says what is wrong with it
        return False
    return isinstance(config, dict) and "experiment" in config


def written(path: Path, text: str) -> Path:
    """A file with a text, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
