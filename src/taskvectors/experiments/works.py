"""What a run keeps of the registry rows of its methods, so that its page needs no registry."""

from collections.abc import Iterable

from taskvectors.methods import METHODS
from taskvectors.methods.controls import CONTROLS


def about_methods(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Title, summary and the works to cite of methods and controls, by name.

    Args:
        names: As they stand in the column `method`; other names are left out.
    """
    found = {}
    for name in dict.fromkeys(names):
        if name in METHODS:
            row = METHODS[name]
            found[name] = {"title": row.title, "summary": row.summary, "citation": row.citation}
        elif name in CONTROLS:
            control = CONTROLS[name]
            found[name] = {"title": control.title, "summary": control.summary, "citation": ""}
    return found
