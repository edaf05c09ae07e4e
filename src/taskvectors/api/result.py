"""What a run gives in Python: its record, drawn and kept where asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from taskvectors.errors import TaskVectorsError
from taskvectors.format import html_table
from taskvectors.report import draw_plotly, page_of, write_report
from taskvectors.results import BEST_VECTOR, Record
from taskvectors.results.folder import save_record
from taskvectors.vectors import TaskVector

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """A finished run."""

    record: Record
    """Everything it holds: metadata, tidy rows, figures, warnings."""
    vector: TaskVector | None = None
    """The vector that a comparison found to be the best on validation."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures of its report."""
        return tuple(figure.name for figure in page_of(self.record).figures())

    def to_frame(self) -> pd.DataFrame:
        """Tidy rows, one measurement each."""
        return self.record.to_frame()

    def plot(self, name: str | None = None) -> "go.Figure":
        """A figure of its report, as a plotly chart.

        Args:
            name: One of `figures`; the first by default.

        Raises:
            TaskVectorsError: It has no such figure, or plotly is not installed.
        """
        found = {figure.name: figure for figure in page_of(self.record).figures()}
        if not found:
            raise TaskVectorsError(
                f"this {self.record.kind} run has no figure, since nothing in it varies along an "
                "axis; its numbers are in to_frame()"
            )
        if name is not None and name not in found:
            raise TaskVectorsError(f"there is no figure {name!r}; there are {', '.join(found)}")
        return draw_plotly(found[next(iter(found)) if name is None else name])

    def save(self, folder: str | Path) -> Path:
        """Write it as a run folder with its report.

        Args:
            folder: A new or an empty folder.

        Returns:
            The report.

        Raises:
            DataError: The folder holds something else, or cannot be written.
        """
        record = save_record(self.record, Path(folder).expanduser())
        assert record.folder is not None
        if self.vector is not None:
            self.vector.save(record.folder / BEST_VECTOR)
        return write_report(record)

    def __repr__(self) -> str:
        about = self.record.metadata
        return (
            f"RunResult({self.record.kind} of {about.get('task', '')} on {about.get('model', '')}: "
            f"{len(self.record.frame)} rows)"
        )

    def _repr_html_(self) -> str:
        page = page_of(self.record)
        table = next(iter(page.tables()), None)
        headings, rows = ((), []) if table is None else (tuple(table.headings), table.texts)
        return html_table(f"{page.title}. {page.headline}", headings, rows)
