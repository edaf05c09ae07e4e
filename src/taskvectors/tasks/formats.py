"""Formats of files of pairs: from bytes to rows with their places, row by row checked later.

A text format may be compressed. What a reader guessed or skipped is in the notes of its source.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskvectors.errors import DataError, require_package
from taskvectors.tasks.columns import Columns, Row, missing_column, shown

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".xlsx")
"""Formats; text formats also with `.gz` behind."""
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(kw_only=True)
class Source:
    """What a file holds, before rows are made into pairs."""

    rows: Iterator[Row]
    labels: Mapping[str, str] = field(default_factory=dict)
    """Words for labels that the file itself names."""
    notes: list[str] = field(default_factory=list)


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


def suffix_of(path: Path) -> tuple[str, bool]:
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


def text_of(path: Path) -> str:
    """The text of a file, unpacked where it is compressed.

    Raises:
        DataError: It cannot be read, is no whole gzip file, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
        if suffix_of(path)[1]:
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


def _jsonl_source(path: Path, _: Columns) -> Source:
    # not splitlines(): U+2028 and its like may stand inside a JSON string
    lines = list(enumerate(text_of(path).removesuffix("\n").split("\n"), 1))
    filled = [(number, line) for number, line in lines if line.strip()]
    if not filled:
        raise DataError(f"{path}: the file is empty; give one object a line")
    return Source(
        rows=(
            (f"row {number}", parse_json(line, f"{path}, row {number}")) for number, line in filled
        ),
        notes=_blank_note(len(lines) - len(filled)),
    )


def _table_source(path: Path, columns: Columns) -> Source:
    """Rows of a table of text. What separates columns is what makes the header name both."""
    text, notes = text_of(path), []
    is_tsv = suffix_of(path)[0] == ".tsv"
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
    return Source(
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


def _parquet_source(path: Path, columns: Columns) -> Source:
    require_package("pyarrow", "demo", f"{path}: a parquet file")
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        rows = table.to_pylist()
    except Exception as error:  # which kinds pyarrow raises depends on the bytes
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a readable parquet file: {reason}") from error
    names = _class_names(table.schema.metadata or {}, columns.output)
    return Source(rows=numbered(rows), labels=names)


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


def _xlsx_source(path: Path, columns: Columns) -> Source:
    require_package("openpyxl", "excel", f"{path}: an Excel file")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows = [list(row) for row in sheet.iter_rows(values_only=True)]
        others = [one.title for one in book.worksheets[1:]]
        book.close()
    except Exception as error:  # as above, of zipfile and the parser of XML
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a readable Excel file: {reason}") from error
    filled = [(n, row) for n, row in enumerate(rows, 1) if any(one is not None for one in row)]
    if not filled:
        raise DataError(f"{path}: the first sheet is empty")
    header = [str(name).strip() if name is not None else "" for name in filled[0][1]]
    _check_header(header, f"{path}, row {filled[0][0]}", columns)
    notes = [f"sheets left out: {', '.join(others)}"] if others else []
    notes += _blank_note(len(rows) - len(filled))
    return Source(
        rows=(
            (f"row {n}", {k: v for k, v in zip(header, row, strict=False) if k})
            for n, row in filled[1:]
        ),
        notes=notes,
    )


READERS: Mapping[str, Callable[[Path, Columns], Source]] = {
    ".jsonl": _jsonl_source,
    ".ndjson": _jsonl_source,
    ".csv": _table_source,
    ".tsv": _table_source,
    ".parquet": _parquet_source,
    ".xlsx": _xlsx_source,
}
"""Readers of formats that are rows and nothing else, by suffix."""
