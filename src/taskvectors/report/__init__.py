"""What a finished run looks like to a reader: one HTML file, and figures as files.

A figure is described once and drawn by plotly or matplotlib. Nothing here runs a model, and the
heavy libraries are imported only when something is drawn.
"""

from taskvectors.report.compared import AnyRun
from taskvectors.report.experiment import read_experiment
from taskvectors.report.explanation import read_explanation
from taskvectors.report.html_report import (
    read_any,
    write_compared,
    write_figures,
    write_report,
)
from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.report.papers import write_latex, write_markdown
from taskvectors.report.plotly_chart import draw_plotly
from taskvectors.report.run import Run, read_run
from taskvectors.report.run_figures import run_figures
from taskvectors.report.verdict import Headline, headline

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
