"""Figures on disk: read as they were described, and drawn into files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from taskvectors.errors import DataError
from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.results.figures import AnyFigure, Figure, Heatmap

FILE_NAME = "figures.json"
_KINDS: dict[str, TypeAdapter[Any]] = {
    "Figure": TypeAdapter(Figure),
    "Heatmap": TypeAdapter(Heatmap),
}


def figure_of(folder: Path, kept: Mapping[str, Any]) -> AnyFigure:
    """A figure as `figures.json` describes it.

    Args:
        folder: The run's folder, to be named in an error.
        kept: The fields of the figure, and `kind`.

    Raises:
        DataError: That is no figure.
    """
    try:
        about = dict(kept)
        figure: AnyFigure = _KINDS[about.pop("kind")].validate_python(about)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(
            f"{folder / FILE_NAME} does not describe figures ({error}); run the command again"
        ) from error
    return figure


def draw_files(figures: Sequence[AnyFigure], folder: Path, forms: Sequence[str]) -> list[Path]:
    """Figures as files in a folder, which is made where it is not there.

    Args:
        figures: What to draw; their names become the files'.
        folder: Where to.
        forms: File endings: `png`, `svg`, `pdf`.

    Raises:
        TaskVectorsError: matplotlib is not installed, or knows no such form.
    """
    folder.mkdir(exist_ok=True)
    return [
        draw_matplotlib(figure, folder / f"{figure.name}.{form}")
        for figure in figures
        for form in forms
    ]
