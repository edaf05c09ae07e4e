"""What a run says to a reader: one page of it as HTML, Markdown or LaTeX, and its figures as files.

It is given records, and reads no folder. A figure is described once and drawn by plotly or
matplotlib. Nothing here runs a model, and the heavy libraries are imported only when something is
drawn.
"""

from taskvectors.report.files import (
    page_of,
    write_figures,
    write_latex,
    write_markdown,
    write_report,
    write_side_by_side,
)
from taskvectors.report.html import page_html
from taskvectors.report.matplotlib_file import draw_matplotlib
from taskvectors.report.page import Page
from taskvectors.report.plotly_chart import draw_plotly
from taskvectors.report.side_by_side import side_by_side
from taskvectors.report.text import page_latex, page_markdown

__all__ = [
    "Page",
    "draw_matplotlib",
    "draw_plotly",
    "page_html",
    "page_latex",
    "page_markdown",
    "page_of",
    "side_by_side",
    "write_figures",
    "write_latex",
    "write_markdown",
    "write_report",
    "write_side_by_side",
]
