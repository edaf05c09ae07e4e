"""What a finished run looks like to a reader: one HTML file, and figures as files.

A figure is described once and drawn by plotly or matplotlib. Nothing here runs a model, and the
heavy libraries are imported only when something is drawn.
"""

from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.report.old.compared import AnyRun
from taskvectors.report.old.experiment import read_experiment
from taskvectors.report.old.explanation import read_explanation
from taskvectors.report.old.html_report import (
    read_any,
    write_compared,
    write_figures,
    write_report,
)
from taskvectors.report.old.papers import write_latex, write_markdown
from taskvectors.report.old.run import Run, read_run
from taskvectors.report.old.run_figures import run_figures
from taskvectors.report.old.verdict import Headline, headline
from taskvectors.report.plotly_chart import draw_plotly

__all__ = [
    "AnyRun",
    "Headline",
    "Run",
    "draw_matplotlib",
    "draw_plotly",
    "headline",
    "read_any",
    "read_experiment",
    "read_explanation",
    "read_run",
    "run_figures",
    "write_compared",
    "write_figures",
    "write_latex",
    "write_markdown",
    "write_report",
]
