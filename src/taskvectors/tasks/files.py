"""A user's own pairs: json, jsonl, csv, tsv, parquet and xlsx files, one of them or one a split.

A file is read whole or not at all: the first thing that is not as it should be is a `DataError`
with the file, the row and the reason. What was guessed or left out is in the notes.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taskvectors.errors import DataError, require_package
from taskvectors.tasks.columns import (
    SPLITS,
    Columns,
    Row,
    examples,
    kind_of,
    missing_column,
    shown,
    split_name,
)
from taskvectors.tasks.task import Example, TaskData

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".xlsx")
"""Formats; text formats also with `.gz` behind."""
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DEFAULTS = {"description": "", "template": "qa", "license": "that of the file"}
_FIELDS = ("name", *_DEFAULTS, "source", "pairs")


@dataclass(kw_only=True)
class _Source:
    """What a file holds, before rows are made into pairs."""

    rows: Iterator[Row]
    labels: Mapping[str, str] = field(default_factory=dict)
    """Words for labels that the file itself names."""
    notes: list[str] = field(default_factory=list)


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
    suffix, _ = _suffix(path)
    if suffix == ".json":
        return _read_json(path, columns)
    source = _READERS[suffix](path, columns)
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


def numbered(rows: Sequence[object]) -> Iterator[Row]:
    """Rows with their places, counted from 1."""
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def parse_json(text: str, origin: str) -> object:
    """Parsed JSON, in which the same key twice in an object is an error.

    Args:
        text: The JSON text.
        origin: The file (and line), for messages.

    Returns:
        What the text stands for.

    Raises:
        DataError: The text is not JSON, repeats a key, or is nested or long beyond reason.
    """

    def without_repeats(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) < len(items):
            keys = [key for key, _ in items]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{origin}: the key {shown(repeated)} is there twice in one object")
        return found

    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{origin}: not valid JSON at {where}: {error.msg}") from error
    except RecursionError as error:
        raise DataError(
            f"{origin}: lists or objects are nested too deeply; flatten them"
        ) from error
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        raise DataError(f"{origin}: a number has too many digits; write it as a string") from error


# --- one file


def _suffix(path: Path) -> tuple[str, bool]:
    """The format's suffix, and whether the file is compressed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_compressed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if is_compressed else suffixes[-1:])
    if suffix not in SUFFIXES or (is_compressed and suffix in (".parquet", ".xlsx")):
        raise DataError(
            f"{path}: {''.join(suffixes) or 'no suffix'} is not one of {', '.join(SUFFIXES)}, "
            "or the text formats among them with .gz"
        )
    return suffix, is_compressed


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _task_of(path: Path, source: _Source, columns: Columns) -> TaskData:
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
    origin, data = str(path), parse_json(_text(path), str(path))
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


def _jsonl_source(path: Path, _: Columns) -> _Source:
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    lines = list(enumerate(_text(path).removesuffix("\n").split("\n"), 1))
    filled = [(number, line) for number, line in lines if line.strip()]
    if not filled:
        raise DataError(f"{path}: the file is empty; give one object a line")
    return _Source(
        rows=(
            (f"row {number}", parse_json(line, f"{path}, row {number}")) for number, line in filled
        ),
        notes=_blank_note(len(lines) - len(filled)),
    )


def _table_source(path: Path, columns: Columns) -> _Source:
    """Rows of a table of text. What separates columns is what makes the header name both."""
    text, notes = _text(path), []
    is_tsv = _suffix(path)[0] == ".tsv"
    separator = "\t"
    n_before = 0
    if not is_tsv:
        named = text.partition("\n")[0].strip().lower()
        if named.startswith("sep=") and len(named) == 5:  # how Excel names it
            separator, text, n_before = named[-1], text.partition("\n")[2], 1
        else:
            separator = _separator(text, columns)
        if separator != ",":
            notes.append(f"columns are separated by {_SEPARATORS.get(separator, separator)}")
    # quotes mean nothing in a .tsv; not splitlines(): U+2028 and its like do not end a row
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        quoting=csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL,
    )
    rows: list[tuple[str, list[str]]] = []
    n_blank = 0
    while (fields := _next(reader, path, n_before)) is not None:
        if not any(one.strip() for one in fields):
            n_blank += 1
            continue
        rows.append((f"row {reader.line_num + n_before}", fields))
    if not rows:
        raise DataError(
            f"{path}: the file is empty; its first row names {columns.input} and {columns.output}"
        )
    place, header = rows[0][0], [name.strip() for name in rows[0][1]]
    _check_header(header, f"{path}, {place}", columns)
    for place, fields in rows[1:]:
        if len(fields) != len(header):
            raise DataError(
                f"{path}, {place}: {len(fields)} fields where the header names {len(header)}"
            )
    notes += _blank_note(n_blank)
    if is_tsv and any(one.startswith('"') for _, fields in rows for one in fields):
        notes.append("quotes in a .tsv file are part of the text")
    return _Source(
        rows=((place, dict(zip(header, fields, strict=True))) for place, fields in rows[1:]),
        notes=notes,
    )


def _next(reader: Any, path: Path, n_before: int) -> list[str] | None:
    try:
        fields: list[str] | None = next(reader, None)
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num + n_before}: {error}") from error
    return fields


def _separator(text: str, columns: Columns) -> str:
    """What separates the columns of the first row that holds anything."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    by = {
        mark: [name.strip() for name in next(csv.reader([header], delimiter=mark), [])]
        for mark in _SEPARATORS
    }
    wanted = {columns.input, columns.output}
    fitting = [mark for mark, names in by.items() if wanted <= set(names)]
    return fitting[0] if fitting else max(by, key=lambda mark: len(by[mark]))


def _check_header(header: list[str], place: str, columns: Columns) -> None:
    for name in (columns.input, columns.output):
        if name not in header:
            raise DataError(f"{place}: {missing_column(name, header, columns)}")
        if header.count(name) > 1:
            raise DataError(f"{place}: the header names {name!r} {header.count(name)} times")


def _blank_note(n_blank: int) -> list[str]:
    return [f"{n_blank} blank lines skipped"] if n_blank else []


def _parquet_source(path: Path, columns: Columns) -> _Source:
    require_package("pyarrow", "demo", f"{path}: a parquet file")
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a readable parquet file: {reason}") from error
    names = _class_names(table.schema.metadata or {}, columns.output)
    return _Source(rows=numbered(rows), labels=names)


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> dict[str, str]:
    """Names of classes as `datasets` keeps them in a parquet file's metadata."""
    try:
        about = json.loads(metadata.get(b"huggingface", b"{}"))
        names = about["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return {}
    return {str(number): name for number, name in enumerate(names)}


def _xlsx_source(path: Path, columns: Columns) -> _Source:
    require_package("openpyxl", "excel", f"{path}: an Excel file")
    import zipfile

    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows = [list(row) for row in sheet.iter_rows(values_only=True)]
        others = [one.title for one in book.worksheets[1:]]
        book.close()
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a readable Excel file: {reason}") from error
    filled = [(n, row) for n, row in enumerate(rows, 1) if any(one is not None for one in row)]
    if not filled:
        raise DataError(f"{path}: the first sheet is empty")
    header = [str(name).strip() if name is not None else "" for name in filled[0][1]]
    _check_header(header, f"{path}, row {filled[0][0]}", columns)
    notes = [f"sheets left out: {', '.join(others)}"] if others else []
    notes += _blank_note(len(rows) - len(filled))
    return _Source(
        rows=(
            (f"row {n}", {k: v for k, v in zip(header, row, strict=False) if k})
            for n, row in filled[1:]
        ),
        notes=notes,
    )


_READERS = {
    ".jsonl": _jsonl_source,
    ".ndjson": _jsonl_source,
    ".csv": _table_source,
    ".tsv": _table_source,
    ".parquet": _parquet_source,
    ".xlsx": _xlsx_source,
}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if _suffix(path)[1]:
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")  # -sig: spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); compress it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


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
