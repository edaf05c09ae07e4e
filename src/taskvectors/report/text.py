"""A page for a paper or a repository: Markdown, and its tables as LaTeX with booktabs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from taskvectors.format import printable
from taskvectors.report.page import Beside, Block, Command, Page, Text
from taskvectors.report.table import Table, latex, markdown, markdown_text

_FOLDED = frozenset({"rows"})
"""Tables that are left to results.parquet."""


def page_markdown(page: Page, figures: Sequence[Path] = ()) -> str:
    """A page as Markdown.

    Args:
        page: The page.
        figures: Files of its figures, in their order, relative to the page; none where they were
            not drawn.
    """
    said = (page.headline, f"**{markdown_text(page.verdict)}**" if page.verdict else "")
    parts = [f"# {markdown_text(page.title)}", markdown_text(said[0]), said[1]]
    parts += [f"> {markdown_text(text)}" for text in page.cautions]
    drawn = dict(zip(map(id, page.figures()), figures, strict=False))
    for section in page.sections:
        written = [
            text for block in section.blocks for text in _written(block, drawn, section.title)
        ]
        if written:
            parts += [f"## {markdown_text(section.title)}", *written]
    return "\n\n".join(part for part in parts if part) + "\n"


def page_latex(page: Page) -> str:
    """The tables of a page: to be included where booktabs is loaded."""
    parts = [f"% {printable(page.title)}", "% needs \\usepackage{booktabs}"]
    parts += [latex(table) for table in page.tables() if table.name not in _FOLDED]
    return "\n".join(parts) + "\n"


def _written(block: Block, drawn: Mapping[int, Path], under: str) -> list[str]:
    """A block's paragraphs; none for a figure that was not drawn."""
    if isinstance(block, Text):
        return [markdown_text(block.text)]
    if isinstance(block, Command):
        return [f"    {printable(block.text)}"]
    if isinstance(block, Table):
        if block.name in _FOLDED:
            return []
        title = "" if block.title == under else f"### {markdown_text(block.title)}"
        before, after = (map(markdown_text, texts) for texts in (block.before, block.after))
        return [title, *before, markdown(block), *after]
    if isinstance(block, Beside) or id(block) not in drawn:
        return []
    image = f"![{markdown_text(block.title)}]({drawn[id(block)].as_posix()})"
    return [image, markdown_text(block.caption)]
