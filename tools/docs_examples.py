"""Used by mkdocs: a docstring's `Example:` is shown as code.

The reader of docstrings knows only a section called `Examples:`; anything else is text to it, in
which a list such as `[0.1, 0.9]` is a link to a page that is not there.
"""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Gives the section the name that is known."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
