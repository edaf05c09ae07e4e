"""The tasks that come with the package: one json file each, under `data/`, with its provenance.

They are found by looking, not by a list: a file put into the folder is a task.
"""

import difflib
from dataclasses import dataclass
from importlib import resources

from taskvectors.errors import DataError
from taskvectors.tasks.files import task_data
from taskvectors.tasks.formats import parse_json
from taskvectors.tasks.task import TaskData

_DATA = resources.files("taskvectors.tasks") / "data"


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """What a built-in task is, in one line of a table."""

    name: str
    description: str
    template: str
    source: str
    license: str
    n: int


def builtin_tasks() -> tuple[str, ...]:
    """Names of the built-in tasks, sorted."""
    names = (file.name for file in _DATA.iterdir()) if _DATA.is_dir() else ()
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def describe_builtin(name: str) -> TaskSummary:
    """Provenance and size of a built-in task.

    Args:
        name: One of `builtin_tasks()`.

    Returns:
        What the task's data file says about itself, and its number of pairs.

    Raises:
        DataError: There is no such task.
    """
    data = read_builtin(name)
    return TaskSummary(
        name=data.name,
        description=data.description,
        template=data.template,
        source=data.source,
        license=data.license,
        n=len(data.splits["train"]),
    )


def read_forms(name: str) -> tuple[dict[str, str], ...]:
    """The four words of each pair of a task that has them: both languages, both genders.

    Args:
        name: A built-in task whose data file lists forms.

    Raises:
        DataError: There is no such task, or it has no forms.
    """
    read_builtin(name)
    about = parse_json((_DATA / f"{name}.json").read_text(encoding="utf-8"), f"{name}.json")
    forms = about.get("forms") if isinstance(about, dict) else None
    if not forms:
        raise DataError(f"{name} lists no forms; english-masculine-french-feminine does")
    return tuple(forms)


def read_builtin(name: str) -> TaskData:
    """The pairs of a built-in task.

    Args:
        name: One of `builtin_tasks()`.

    Returns:
        The pairs under the split `train`.

    Raises:
        DataError: There is no such task; the message lists names that are close.
    """
    names = builtin_tasks()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else f"there are: {', '.join(names)}"
        raise DataError(
            f"no task is called {name!r}; {hint} (a file is named by its path with its suffix, "
            "a hub data set as hub:owner/name)"
        )
    text = (_DATA / f"{name}.json").read_text(encoding="utf-8")
    about = parse_json(text, f"{name}.json")
    if not isinstance(about, dict) or about.get("name") != name:
        raise DataError(f"{name}.json: give an object whose name is {name!r}")
    # `forms` lists all four words of a pair (gender x language): for the analysis of compositions
    fields = {field: value for field, value in about.items() if field != "forms"}
    return task_data(fields, f"{name}.json", defaults={})
