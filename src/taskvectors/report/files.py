"""Reports as files: the page of a run beside its results, its figures, its tables for a paper.

A name from data becomes no path: files of figures are called by the letters and digits of a name.
"""

import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from taskvectors.errors import DataError
from taskvectors.files import write_whole
from taskvectors.report.analyses import analyses_page
from taskvectors.report.comparison import comparison_page
from taskvectors.report.evaluation import evaluation_page
from taskvectors.report.experiment import experiment_page
from taskvectors.report.html import page_html
from taskvectors.report.learners import learners_page
from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.report.page import Page
from taskvectors.report.side_by_side import side_by_side
from taskvectors.report.text import page_latex, page_markdown
from taskvectors.results.figures import AnyFigure
from taskvectors.results.record import Record

_PAGES = {
    "compare": comparison_page,
    "evaluate": evaluation_page,
    "explain": analyses_page,
    "train": learners_page,
}


def page_of(record: Record) -> Page:
    """The page of a run, whatever kind it is of."""
    kind = "train" if "learner" in record.metadata else record.kind
    return _PAGES.get(kind, experiment_page)(record)


def write_report(record: Record) -> Path:
    """The report of a run, `report.html` in its folder.

    Raises:
        DataError: The run lies in no folder, or that cannot be written.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    return _written(_folder(record) / "report.html", page_html(page_of(record)))


def write_side_by_side(records: Sequence[Record], path: Path | None = None) -> Path:
    """Several runs side by side in one page.

    Args:
        records: Runs of one kind.
        path: Where to, an .html file; `compared.html` in the first run's folder by default.

    Raises:
        DataError: The runs are not of one kind, or the page cannot be written.
        TaskVectorsError: jinja2 or plotly is not installed.
    """
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise DataError(
            f"{path} is no name of a page, and a file that is there would be replaced; give one "
            "that ends in .html"
        )
    text = page_html(side_by_side(records))
    return _written(path or _folder(records[0]) / "compared.html", text)


def write_markdown(record: Record) -> Path:
    """A run's page as `report.md` in its folder; figures are linked where they were drawn."""
    folder, page = _folder(record), page_of(record)
    paths = [Path("figures") / f"{stem}.png" for stem in stems(page.figures())]
    drawn = all((folder / path).is_file() for path in paths)
    return _written(folder / "report.md", page_markdown(page, paths if drawn else ()))


def write_latex(record: Record) -> Path:
    """A run's tables as `tables.tex` in its folder: to be included where booktabs is loaded."""
    return _written(_folder(record) / "tables.tex", page_latex(page_of(record)))


def write_figures(record: Record, forms: Sequence[str]) -> list[Path]:
    """Every figure of a run as files in its folder `figures`.

    Args:
        record: The run.
        forms: File endings: `png`, `svg`, `pdf`.

    Raises:
        TaskVectorsError: matplotlib is not installed, or knows no such form.
    """
    figures = page_of(record).figures()
    folder = _folder(record) / "figures"
    if figures:
        folder.mkdir(exist_ok=True)
    return [
        draw_matplotlib(figure, folder / f"{stem}.{form}")
        for figure, stem in zip(figures, stems(figures), strict=True)
        for form in forms
    ]


def stems(figures: Sequence[AnyFigure]) -> list[str]:
    """What the files of figures are called: letters, digits and hyphens, no two alike."""
    found: list[str] = []
    for figure in figures:
        stem = re.sub(r"[^A-Za-z0-9]+", "-", figure.name)[:80].strip("-") or "figure"
        numbered = (f"{stem}-{number}" for number in count(2))
        found.append(next(one for one in chain([stem], numbered) if one not in found))
    return found


def _folder(record: Record) -> Path:
    if record.folder is None:
        raise DataError("this run lies in no folder; save it first: record.save(FOLDER)")
    return record.folder


def _written(path: Path, text: str) -> Path:
    try:
        write_whole(path, text)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
    return path
