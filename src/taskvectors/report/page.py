"""A page: what a run says, apart from how it is written.

`html.py` makes one file of it for a browser, `text.py` Markdown and LaTeX.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from taskvectors.report.table import Table
from taskvectors.results.figures import AnyFigure


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; `is_aside` where it only helps to read, `is_caution` where it warns."""

    text: str
    is_aside: bool = False
    is_caution: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line that can be copied."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Figures of several runs, each under the name of its run; None where it has none."""

    sides: tuple[tuple[str, AnyFigure | str], ...]
    """The name of a run, and its figure or why there is none."""


Block = Text | Command | Table | AnyFigure | Beside


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page; `name` is its anchor, one on a page."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a run says.

    Attributes:
        kicker: What kind of page it is.
        title: What was looked at.
        headline: The result, in one sentence.
        verdict: What follows from it, in one sentence; nothing where nothing does.
        cautions: What a reader has to keep in mind.
        sections: The rest.
    """

    kicker: str
    title: str
    headline: str
    verdict: str
    cautions: tuple[str, ...]
    sections: tuple[Section, ...]

    def blocks(self) -> Iterator[Block]:
        """Everything in its sections."""
        for section in self.sections:
            yield from section.blocks

    def tables(self, section: str = "") -> list[Table]:
        """Its tables, or those of one of its sections."""
        return [
            block
            for one in self.sections
            if section in ("", one.name)
            for block in one.blocks
            if isinstance(block, Table)
        ]

    def figures(self) -> list[AnyFigure]:
        """Its figures, in their order."""
        found: list[AnyFigure] = []
        for block in self.blocks():
            if isinstance(block, Beside):
                found += [side for _, side in block.sides if not isinstance(side, str)]
            elif not isinstance(block, Text | Command | Table):
                found.append(block)
        return found
