"""Used by mkdocs: the README is the site's first page, a docstring's `Example:` is shown as code.

mkdocs reads this file as a hook, griffe as an extension.
"""

import re
from pathlib import Path
from typing import Any

import griffe

README = Path(__file__).parents[1] / "README.md"


def first_page(readme: str) -> str:
    """The README as a page of the site: links into docs/ lead there, other files lose theirs."""

    def placed(link: re.Match[str]) -> str:
        words, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        return f"[{words}]({target.removeprefix('docs/')})" if target.startswith("docs/") else words

    return re.sub(r"\[([^]]*)\]\(([^)]*)\)", placed, readme)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the README in place of index.md."""
    if page.file.src_uri != "index.md":
        return markdown
    return first_page(README.read_text(encoding="utf-8"))


class ExampleSections(griffe.Extension):
    """Renames `Example:` to `Examples:`, the only name that the reader of docstrings knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
