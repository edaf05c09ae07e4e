"""From rows to pairs: which column asks, which answers, and the word for each label."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taskvectors.errors import DataError
from taskvectors.tasks.task import Example

Row = tuple[str, object]
"""Where a row is ("row 3"), and what is there."""
SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(
    ("dev", "val", "valid"), "validation"
)
_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    type(None): "null",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How rows become pairs."""

    input: str = "input"
    """Column of what is asked."""
    output: str = "output"
    """Column of the answer."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The word for each value of the output column, by the value as text: `{"0": "negative"}`."""
    strip: bool = False
    """Remove blanks at the ends of inputs and answers; without it they are an error."""

    @property
    def is_default(self) -> bool:
        """Whether nothing was said."""
        return self == Columns()


def examples(
    rows: Iterable[Row], origin: str, columns: Columns
) -> tuple[dict[str, tuple[Example, ...]], tuple[str, ...]]:
    """Rows checked one by one and made into pairs, by split.

    An answer that is a list gives several right answers. Where a column `split` names a split in
    every row, and `train` in some, the source's own splits are kept.

    Args:
        rows: Where each row is, and what is there.
        origin: The file, for messages.
        columns: Which columns are read, and how.

    Returns:
        Pairs by split (`train` alone where rows name none), and notes on what was left out,
        changed or guessed.

    Raises:
        DataError: A row is not an object, lacks a column, or holds what is no text.
    """
    reader = _Reader(columns=columns)
    found = [reader.read(place, row, origin) for place, row in rows]
    names = [name for _, name in found]
    if all(map(split_name, names)) and "train" in map(split_name, names):
        splits: dict[str, list[Example]] = {}
        for (pair, _), name in zip(found, names, strict=True):
            splits.setdefault(split_name(name) or "", []).append(pair)
        reader.extra.pop("split", None)
        notes = (*reader.notes(), "the column 'split' gives the splits")
        return {name: tuple(pairs) for name, pairs in splits.items()}, notes
    return {"train": tuple(pair for pair, _ in found)}, reader.notes()


@dataclass(kw_only=True)
class _Reader:
    """Reads rows, and remembers what has to be said about them."""

    columns: Columns
    extra: dict[str, None] = field(default_factory=dict)
    n_stripped: int = 0
    n_digits: int = 0

    def read(self, place: str, row: object, origin: str) -> tuple[Example, object]:
        """The pair of a row, and what its column `split` says, if anything."""
        where, columns = f"{origin}, {place}", self.columns
        if not isinstance(row, Mapping):
            raise DataError(
                f"{where}: {kind_of(row)}; give an object with {columns.input} and {columns.output}"
            )
        used = (columns.input, columns.output)
        for name in used:
            if name not in row:
                raise DataError(f"{where}: {missing_column(name, list(row), columns)}")
        asked = row[columns.input]
        if isinstance(asked, int) and not isinstance(asked, bool):
            self.n_digits += 1
            asked = str(asked)
        answers = self._answers(row[columns.output], where)
        self.extra.update(dict.fromkeys(str(name) for name in row if name not in used))
        pair = Example(
            input=self._text(asked, columns.input, where), output=answers[0], also=answers[1:]
        )
        return pair, row.get("split")

    def _answers(self, value: object, where: str) -> tuple[str, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise DataError(f"{where}: {self.columns.output} is an empty list; give an answer")
        found = [self._text(self._word(one, where), self.columns.output, where) for one in values]
        return tuple(dict.fromkeys(found))

    def _word(self, value: object, where: str) -> object:
        """The word for a label; what is text already stays."""
        labels, name = self.columns.labels, self.columns.output
        key = str(value).lower() if isinstance(value, bool) else str(value)
        if labels:
            if key not in labels:
                raise DataError(
                    f"{where}: {name} {shown(value)} has no word; there are words for "
                    f"{', '.join(labels)}; name it with --labels {_quoted(key)}=WORD"
                )
            return labels[key]
        if isinstance(value, bool | int):
            raise DataError(
                f"{where}: {name} is {kind_of(value)} ({shown(value)}); give each value a word, "
                f"such as --labels {key}=WORD (in Python labels={{{key!r}: 'WORD'}})"
            )
        return value

    def _text(self, value: object, name: str, where: str) -> str:
        if not isinstance(value, str):
            raise DataError(f"{where}: {name} is {kind_of(value)} ({shown(value)}); give a string")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: {name} holds half of a character ({value[error.start]!r} alone, a lone "
                "surrogate); write the whole character"
            ) from error
        bare = value.strip()
        if not bare:
            raise DataError(f"{where}: {name} is empty")
        if bare != value:
            if not self.columns.strip:
                raise DataError(
                    f"{where}: {name} {shown(value)} begins or ends with a blank; remove it, or "
                    "have all removed with --strip"
                )
            self.n_stripped += 1
        return bare

    def notes(self) -> tuple[str, ...]:
        """What was left out or changed."""
        notes = []
        if self.extra:
            notes.append(f"fields left out: {', '.join(self.extra)}")
        if self.n_stripped:
            notes.append(f"blanks at the ends of {self.n_stripped} texts were removed")
        if self.n_digits:
            notes.append(f"{self.n_digits} whole numbers in {self.columns.input} are read as text")
        return tuple(notes)


def missing_column(name: str, found: Sequence[object], columns: Columns) -> str:
    """What to say of a column that is not there: the columns there are, and how to name one."""
    option = "--input-column" if name == columns.input else "--output-column"
    names = ", ".join(shown(one) for one in found[:20]) or "none"
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return f"no column {name!r}; the columns are: {names}{more}; name the right one with {option}"


def split_name(value: object) -> str | None:
    """The split that a word names: train, validation (dev, val, valid) or test; None if none."""
    return _SPLIT_NAMES.get(value.lower()) if isinstance(value, str) else None


def kind_of(value: object) -> str:
    """The kind of a value, as people say it."""
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A value as a message has it: quoted, on one line, and short whatever it is."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = shortened.maxlong = 60
    return shortened.repr(value)


def _quoted(key: str) -> str:
    return f"'{key}'" if " " in key else key
