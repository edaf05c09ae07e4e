"""One door for all tasks: a built-in name, a file, or a data set of the hub."""

from pathlib import Path

from taskvectors.errors import DataError
from taskvectors.tasks.builtin import read_builtin
from taskvectors.tasks.files import read_file
from taskvectors.tasks.hub import PREFIX, read_hub
from taskvectors.tasks.splits import make_splits
from taskvectors.tasks.task import Task, TaskData


def load_task(
    source: str,
    *,
    seed: int = 0,
    n_train: int = 300,
    n_validation: int = 100,
    n_test: int = 200,
) -> Task:
    """A task from any source, split by seed.

    Where there are fewer pairs than asked for, the splits are 45/15/40 % of them. Pairs that share
    an input, and a pair and its reverse, are never on two sides. A hub data set with splits of its
    own keeps them.

    Args:
        source: A built-in name (`capital`); the path of a .json, .jsonl, .csv, .tsv or .parquet
            file; or `hub:` and a preset (`hub:sst2`), a preset on a local folder of the same layout
            (`hub:sst2@folder`), or a data set with columns input and output (`hub:owner/name`,
            `hub:owner/name@revision`).
        seed: Seed of the split.
        n_train: Pairs to learn from.
        n_validation: Pairs to choose on.
        n_test: Pairs to report on.

    Returns:
        The task; duplicates, conflicting outputs and short splits are in its notes.

    Raises:
        DataError: The source does not exist, is malformed, or is too small.
    """
    data = _read(source)
    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    try:
        splits = make_splits(data.splits, sizes, seed)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
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
    )


def _read(source: str) -> TaskData:
    if source.startswith(PREFIX):
        return read_hub(source)
    path = Path(source).expanduser()
    if path.suffix or len(path.parts) > 1:
        return read_file(path)
    return read_builtin(source)
