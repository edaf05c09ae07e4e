"""A user's own pairs: json, jsonl, csv, tsv, parquet and xlsx files, one of them or one a split.

A file is read whole or not at all: the first thing that is not as it should be is a `DataError`
with the file, the row and the reason. What was guessed or left out is in the notes.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from taskvectors.errors import DataError
from taskvectors.tasks.columns import SPLITS, Columns, examples, kind_of, shown, split_name
from taskvectors.tasks.formats import (
    READERS,
    SUFFIXES,
    Source,
    numbered,
    parse_json,
    suffix_of,
    text_of,
)
from taskvectors.tasks.task import Example, TaskData

_DEFAULTS = {"description": "", "template": "qa", "license": "that of the file"}
_FIELDS = ("name", *_DEFAULTS, "source", "pairs")


def read_file(path: Path, columns: Columns | None = None) -> TaskData:
    """The pairs of a file, or of a folder with one file a split, and what it says about itself.

    A `.json` file is a list of `{"input": ..., "output": ...}`; a mapping from inputs to outputs;
    an object that holds the list under `pairs` or `data`, beside any of `name`, `description`,
    `template`, `source`, `license`; or an object with a list for each split. A `.jsonl` or
    `.ndjson` file has one object a line; the others have columns. A folder has `train.*` and any of
    `validation.*` (or `dev`, `val`, `valid`) and `test.*`.

    Args:
        path: The file or folder; a file's suffix names its format.
        columns: Which columns are read; `input` and `output` by default.

    Returns:
        The pairs by split; fields that the file does not have are filled in.

    Raises:
        DataError: The file cannot be read, or is malformed.
    """
    columns = columns or Columns()
    if path.is_dir():
        return _read_folder(path, columns)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    suffix, _ = suffix_of(path)
    if suffix == ".json":
        return _read_json(path, columns)
    source = READERS[suffix](path, columns)
    return _task_of(path, source, columns)


def task_data(
    about: Mapping[str, object],
    origin: str,
    defaults: Mapping[str, str],
    columns: Columns | None = None,
) -> TaskData:
    """A task as the object form of a json file describes it.

    Args:
        about: The parsed object, its list of rows under `pairs`.
        origin: The file, for messages.
        defaults: Values of fields that may be absent; any other field must be there.
        columns: Which fields of a row are read; `input` and `output` by default.

    Returns:
        The pairs by split.

    Raises:
        DataError: A field is missing, unknown or not a string, or a pair is malformed.
    """
    unknown = [name for name in about if name not in _FIELDS]
    if unknown:
        raise DataError(
            f"{origin}: field {shown(unknown[0])} is unknown; a task has {', '.join(_FIELDS)}"
        )
    fields = {**defaults, **about}
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise DataError(f"{origin}: field {missing[0]!r} is missing")
    pairs = fields.pop("pairs")
    if not isinstance(pairs, list):
        raise DataError(f"{origin}: the pairs are {kind_of(pairs)}; give a list of objects")
    texts: dict[str, str] = {}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise DataError(f"{origin}: field {name!r} is {kind_of(value)}; give a string")
        texts[name] = value
    splits, notes = examples(numbered(pairs), origin, columns or Columns())
    return TaskData(splits=splits, notes=notes, **texts)


# --- one file


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _task_of(path: Path, source: Source, columns: Columns) -> TaskData:
    """The pairs of rows, with the words for labels that the file names unless others were given."""
    if source.labels and not columns.labels:
        columns = replace(columns, labels=source.labels)
        words = ", ".join(f"{key} {word}" for key, word in source.labels.items())
        source.notes.append(f"the file names its labels: {words}")
    splits, notes = examples(source.rows, str(path), columns)
    return TaskData(
        name=_stem(path),
        source=str(path),
        splits=splits,
        notes=(*source.notes, *notes),
        **_DEFAULTS,
    )


def _read_json(path: Path, columns: Columns) -> TaskData:
    origin, data = str(path), parse_json(text_of(path), str(path))
    defaults = {"name": _stem(path), "source": origin, **_DEFAULTS}
    notes: list[str] = []
    about = data if isinstance(data, dict) else {"pairs": data}
    if isinstance(data, dict) and "pairs" not in data:
        if isinstance(data.get("data"), list):
            left_out = [name for name in data if name not in (*_FIELDS, "data")]
            notes += [f"fields of the file left out: {', '.join(left_out)}"] if left_out else []
            about = {name: value for name, value in data.items() if name in _FIELDS}
            about["pairs"] = data["data"]
        elif data and all(split_name(key) and isinstance(data[key], list) for key in data):
            return _joined({key: _rows_task(data[key], origin, key, columns) for key in data}, path)
        elif set(data) - set(_FIELDS) and all(isinstance(v, str | list) for v in data.values()):
            notes.append(f"read as {len(data)} inputs, each with its output")
            rows = [{columns.input: key, columns.output: value} for key, value in data.items()]
            about = {"pairs": rows}
    found = task_data(about, origin, defaults, columns)
    return replace(found, notes=(*notes, *found.notes))


def _rows_task(rows: list[object], origin: str, split: str, columns: Columns) -> TaskData:
    splits, notes = examples(numbered(rows), f"{origin}, {split}", columns)
    return TaskData(name="", source=origin, splits=splits, notes=notes, **_DEFAULTS)


# --- one file a split


def _read_folder(folder: Path, columns: Columns) -> TaskData:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = split_name(path.name.partition(".")[0])
        if name is None or not path.is_file():
            continue
        if name in found:
            raise DataError(
                f"{folder}: {found[name].name} and {path.name} are both the {name} split; keep one"
            )
        found[name] = path
    if "train" not in found:
        raise DataError(
            f"{folder}: the folder has no train file; name its files train, validation and test, "
            f"each with one of {', '.join(SUFFIXES)}"
        )
    return _joined({name: read_file(path, columns) for name, path in found.items()}, folder)


def _joined(parts: Mapping[str, TaskData], path: Path) -> TaskData:
    """Splits that were read one by one as one task."""
    splits: dict[str, tuple[Example, ...]] = {}
    for key, part in parts.items():
        name = split_name(key) or key
        if set(part.splits) != {"train"}:
            raise DataError(
                f"{path}, {key}: a column 'split' names splits inside one; leave the column out"
            )
        splits[name] = part.splits["train"]
    if "train" not in splits:
        raise DataError(f"{path}: there is no train split; its splits are: {', '.join(parts)}")
    counts = ", ".join(f"{name} {len(splits[name])}" for name in SPLITS if name in splits)
    notes = [f"{key}: {note}" for key, part in parts.items() for note in part.notes]
    return TaskData(
        name=_stem(path),
        source=str(path),
        splits=splits,
        notes=(f"own splits: {counts}", *notes),
        **_DEFAULTS,
    )
