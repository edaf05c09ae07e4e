"""A user's own pairs: json, jsonl, csv, tsv and parquet files.

A file is read whole or not at all: the first thing that is not as it should be is a `DataError`
with the file, the row and the reason. Extra columns are left out, and the notes say so.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from taskvectors.errors import DataError
from taskvectors.tasks.task import Example, TaskData

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
_DEFAULTS = {
    "description": "",
    "template": "qa",
    "license": "that of the file",
}
_FIELDS = ("name", *_DEFAULTS, "source", "pairs")

Row = tuple[str, object]  # where it is ("row 3"), and what is there


def read_file(path: Path) -> TaskData:
    """The pairs of a file, and what it says about itself.

    A `.json` file is a list of `{"input": ..., "output": ...}`, or an object that holds such a list
    under `pairs` beside any of `name`, `description`, `template`, `source`, `license`. A `.jsonl`
    file has one such object a line; `.csv`, `.tsv` and `.parquet` have columns of these names.

    Args:
        path: The file; its suffix names its format.

    Returns:
        The pairs under the split `train`; fields that the file does not have are filled in.

    Raises:
        DataError: The file cannot be read, or is malformed.
    """
    about: Mapping[str, object] = {}
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if suffix == ".json":
        data = parse_json(_text(path), str(path))
        about = data if isinstance(data, dict) else {"pairs": data}
        return task_data(about, str(path), {"name": path.stem, "source": str(path), **_DEFAULTS})
    if suffix == ".jsonl":
        rows = _jsonl_rows(path)
    elif suffix in (".csv", ".tsv"):
        rows = _table_rows(path, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        rows = _parquet_rows(path)
    else:
        raise DataError(f"{path}: {suffix or 'no suffix'} is not one of {', '.join(SUFFIXES)}")
    pairs, notes = examples(rows, str(path))
    return TaskData(
        name=path.stem, source=str(path), splits={"train": pairs}, notes=notes, **_DEFAULTS
    )


def task_data(about: Mapping[str, object], origin: str, defaults: Mapping[str, str]) -> TaskData:
    """A task as the object form of a json file describes it.

    Args:
        about: The parsed object.
        origin: The file, for messages.
        defaults: Values of fields that may be absent; any other field must be there.

    Returns:
        The pairs under the split `train`.

    Raises:
        DataError: A field is missing, unknown or not a string, or a pair is malformed.
    """
    unknown = [field for field in about if field not in _FIELDS]
    if unknown:
        raise DataError(
            f"{origin}: field {unknown[0]!r} is unknown; a task has {', '.join(_FIELDS)}"
        )
    fields = {**defaults, **about}
    missing = [field for field in _FIELDS if field not in fields]
    if missing:
        raise DataError(f"{origin}: field {missing[0]!r} is missing")
    pairs = fields.pop("pairs")
    if not isinstance(pairs, list):
        raise DataError(f"{origin}: the pairs are {_kind(pairs)}; give a list of objects")
    texts: dict[str, str] = {}
    for field, value in fields.items():
        if not isinstance(value, str):
            raise DataError(f"{origin}: field {field!r} is {_kind(value)}; give a string")
        texts[field] = value
    found, notes = examples(((f"row {n}", row) for n, row in enumerate(pairs, 1)), origin)
    return TaskData(splits={"train": found}, notes=notes, **texts)


def parse_json(text: str, origin: str) -> object:
    """Parsed JSON, in which the same key twice in an object is an error.

    Args:
        text: The JSON text.
        origin: The file (and line), for messages.

    Returns:
        What the text stands for.

    Raises:
        DataError: The text is not JSON, or repeats a key.
    """

    def without_repeats(items: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in items]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise DataError(f"{origin}: the key {repeated[0]!r} is there twice in one object")
        return dict(items)

    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{origin}: not valid JSON at {where}: {error.msg}") from error


def examples(rows: Iterator[Row], origin: str) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Rows checked one by one and made into pairs.

    Args:
        rows: Where each row is, and what is there.
        origin: The file, for messages.

    Returns:
        The pairs, and a note on columns that were left out.

    Raises:
        DataError: A row is not an object, lacks a field, or a field is not a clean string.
    """
    pairs: list[Example] = []
    extra: dict[str, None] = {}
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise DataError(
                f"{origin}, {place}: {_kind(row)}; give an object with input and output"
            )
        pair = Example(
            input=_clean_field(row, "input", f"{origin}, {place}"),
            output=_clean_field(row, "output", f"{origin}, {place}"),
        )
        pairs.append(pair)
        extra.update(dict.fromkeys(field for field in row if field not in ("input", "output")))
    return tuple(pairs), (f"fields left out: {', '.join(extra)}",) if extra else ()


def _clean_field(row: Mapping[str, object], field: str, place: str) -> str:
    if field not in row:
        found = ", ".join(map(str, row)) or "none"
        raise DataError(f"{place}: no field {field!r}; the fields are: {found}")
    value = row[field]
    if not isinstance(value, str):
        raise DataError(f"{place}: {field} is {_kind(value)} ({value!r}); give a string")
    if not value.strip():
        raise DataError(f"{place}: {field} is empty")
    if value != value.strip():
        raise DataError(f"{place}: {field} {value!r} begins or ends with a blank; remove it")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # -sig: spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    lines = _text(path).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DataError(f"{path}, row {number}: the line is empty; remove it")
        yield f"row {number}", parse_json(line, f"{path}, row {number}")


def _table_rows(path: Path, delimiter: str) -> Iterator[Row]:
    # not splitlines(): U+2028 and its like do not end a row
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, row {reader.line_num}: {error}") from error
        if fields is None:
            break
        place = f"row {reader.line_num}"
        if not header:
            header = _checked_header(fields, f"{path}, {place}")
        elif len(fields) != len(header):
            raise DataError(
                f"{path}, {place}: {len(fields)} fields where the header names {len(header)}"
            )
        else:
            yield place, dict(zip(header, fields, strict=True))
    if not header:
        raise DataError(f"{path}: the file is empty; its first row names input and output")


def _checked_header(fields: list[str], place: str) -> list[str]:
    for name in ("input", "output"):
        if fields.count(name) != 1:
            raise DataError(
                f"{place}: the header names {name!r} {fields.count(name)} times; it must name "
                f"input and output once each (found: {', '.join(fields) or 'nothing'})"
            )
    return fields


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f'{path}: parquet files need pyarrow; install it with pip install "taskvectors[demo]"'
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a readable parquet file: {reason}") from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row
