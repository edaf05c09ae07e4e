"""One door for all tasks: a built-in name, a file, pairs in memory, or a data set of the hub."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.errors import DataError
from taskvectors.tasks.builtin import builtin_tasks, read_builtin
from taskvectors.tasks.columns import Columns, examples, kind_of
from taskvectors.tasks.files import read_file
from taskvectors.tasks.formats import numbered
from taskvectors.tasks.hub import PREFIX, read_hub
from taskvectors.tasks.request import TaskRequest
from taskvectors.tasks.splits import make_splits
from taskvectors.tasks.task import Example, Task, TaskData

if TYPE_CHECKING:
    import pandas as pd

    Source = str | Path | Iterable[Any] | Mapping[str, str] | pd.DataFrame


def load_task(  # noqa: PLR0913  (where pairs are, how they are read, how they are split)
    source: "Source",
    *,
    seed: int = 0,
    n_train: int = 300,
    n_validation: int = 100,
    n_test: int = 200,
    input_column: str = "input",
    output_column: str = "output",
    labels: Mapping[Any, str] | None = None,
    strip: bool = False,
) -> Task:
    """A task from any source, split by seed.

    Where there are fewer pairs than asked for, the splits are 45/15/40 % of them. Pairs that share
    an input, and a pair and its reverse, are never on two sides. A source with splits of its own
    keeps them.

    Args:
        source: A built-in name (`capital`); the path of a file or folder that `read_file` reads;
            `hub:` and a preset (`hub:sst2`), a preset on a local folder of the same layout
            (`hub:sst2@folder`), or a data set (`hub:owner/name`, `hub:owner/name@revision`); or
            pairs in memory: a list of (input, output) or of mappings, a mapping from input to
            output, a DataFrame.
        seed: Seed of the split.
        n_train: Pairs to learn from.
        n_validation: Pairs to choose on.
        n_test: Pairs to report on.
        input_column: Column of what is asked.
        output_column: Column of the answer; a list there is several right answers.
        labels: The word for each value of the output column: `{0: "negative", 1: "positive"}`.
        strip: Remove blanks at the ends of texts; without it they are an error.

    Returns:
        The task; duplicates, conflicting outputs, short splits and guesses are in its notes.

    Raises:
        DataError: The source does not exist, is malformed, or is too small.
    """
    columns = Columns(
        input=input_column,
        output=output_column,
        labels={_as_key(key): word for key, word in (labels or {}).items()},
        strip=strip,
    )
    data = _read(source, columns)
    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    try:
        splits = make_splits(data.splits, sizes, seed)
    except DataError as error:
        raise DataError(f"{data.source}: {error}") from error
    return Task(
        name=data.name,
        description=data.description,
        template=data.template,
        source=data.source,
        license=data.license,
        seed=seed,
        train=splits.train,
        validation=splits.validation,
        test=splits.test,
        notes=(*data.notes, *splits.notes),
        request=None
        if not isinstance(source, str | Path)
        else TaskRequest(
            source=str(Path(source).expanduser().absolute()) if _is_path(source) else str(source),
            seed=seed,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            input_column=input_column,
            output_column=output_column,
            labels=dict(columns.labels),
            strip=strip,
        ),
    )


def as_task(task: "Task | Source") -> Task:
    """A task, or what `load_task` takes, loaded as it is by default."""
    return task if isinstance(task, Task) else load_task(task)


def as_examples(pairs: "Iterable[Any] | Mapping[str, str] | pd.DataFrame") -> tuple[Example, ...]:
    """All pairs in memory, in any form that `load_task` takes.

    Raises:
        DataError: They are none.
    """
    if isinstance(pairs, list | tuple) and all(isinstance(pair, Example) for pair in pairs):
        return tuple(pairs)
    splits = _read_memory(pairs, Columns()).splits
    return tuple(pair for split in splits.values() for pair in split)


def _as_key(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(source: "Source", columns: Columns) -> TaskData:
    if isinstance(source, Path):
        return read_file(source.expanduser(), columns)
    if not isinstance(source, str):
        return _read_memory(source, columns)
    if source.startswith(PREFIX):
        return read_hub(source, columns)
    if _is_path(source):
        return read_file(Path(source).expanduser(), columns)
    if not columns.is_default:
        raise DataError(
            f"{source} is a built-in task, whose columns are known; leave out what names or "
            "changes columns, or give a file by its path"
        )
    return read_builtin(source)


def _is_path(source: str | Path) -> bool:
    """Whether a source is a file or folder, and not a built-in name or a data set of the hub."""
    if isinstance(source, Path):
        return True
    if source.startswith(PREFIX):
        return False
    path = Path(source).expanduser()
    return bool(
        path.suffix or len(path.parts) > 1 or (source not in builtin_tasks() and path.is_dir())
    )


def _read_memory(source: Any, columns: Columns) -> TaskData:
    """Pairs of a list, a mapping or a DataFrame."""
    origin = "the pairs"
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        rows: list[object] = [_plain(row) for row in source.to_dict("records")]
    elif isinstance(source, Mapping):
        rows = [{columns.input: key, columns.output: value} for key, value in source.items()]
    elif isinstance(source, Iterable):
        rows = [_as_row(one, columns, number) for number, one in enumerate(source, 1)]
    else:
        raise DataError(
            f"a task is {kind_of(source)}; give a name, a path, a list of pairs, a mapping or a "
            "DataFrame"
        )
    splits, notes = examples(numbered(rows), origin, columns)
    return TaskData(
        name="pairs",
        description="",
        template="qa",
        source=origin,
        license="that of the pairs",
        splits=splits,
        notes=notes,
    )


def _as_row(one: object, columns: Columns, number: int) -> object:
    if isinstance(one, Example):
        return {columns.input: one.input, columns.output: [*one.answers]}
    if isinstance(one, list | tuple):
        if len(one) != 2:
            raise DataError(f"pair {number} has {len(one)} parts; give (input, output)")
        return {columns.input: one[0], columns.output: one[1]}
    return one


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a DataFrame without numpy's types."""
    return {str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()}
