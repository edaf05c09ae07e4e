"""What `--dry-run` says: what would be run and where to, after all checks that need no model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.cli.results import Result

if TYPE_CHECKING:
    from taskvectors.tasks import Task


def would_run(verb: str, folder: Path, *, task: "Task | None" = None, **about: Any) -> Result:
    """What a command would do.

    Args:
        verb: Its verb.
        folder: Where its results would be.
        task: The task, which has been loaded.
        about: What else there is to know; lists are shown in a line.
    """
    facts: dict[str, Any] = dict(about)
    if task is not None:
        splits = ("train", "validation", "test")
        facts |= {"task": task.name} | {f"n_{s}": len(getattr(task, s)) for s in splits}
    data = {"dry_run": True, "verb": verb, **facts, "folder": str(folder)}
    lines = [f"{name.replace('_', ' ')}: {_said(value)}" for name, value in facts.items()]
    return Result(
        data=data,
        shown=[f"taskvectors {verb} would run:", *lines, f"into {folder}", "Nothing was run."],
    )


def _said(value: Any) -> str:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return ", ".join(map(str, value)) if is_list else str(value)
