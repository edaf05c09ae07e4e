"""What was run, as short tables: settings, what was asked for, software, the works to cite."""

import shlex
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from taskvectors.format import ABSENT, in_words, memory, whole
from taskvectors.progress import format_duration
from taskvectors.report.page import Command, Section, Text
from taskvectors.report.table import Cell, Column, Table, names_and_values
from taskvectors.results.record import Record

_NAMES = {
    "model": "Model",
    "family": "Family",
    "dtype": "Number format",
    "weights_note": "Weights",
    "task": "Task",
    "description": "Description",
    "template": "Prompt template",
    "shots": "Demonstrations",
    "seed": "Seed",
    "n_train": "Training items",
    "n_validation": "Validation items",
    "n_test": "Test items",
    "started": "Started",
    "finished": "Finished",
    "seconds": "Duration",
    "estimate": "Estimated before",
}
_ELSEWHERE = frozenset({
    "command", "versions", "notes", "warnings", "asked", "made_from", "methods", "analyses", "kind",
    "format", "published", "question", "paper", "what_the_paper_did", "what_we_do_otherwise",
    "shown", "shows_candidates", "title", "experiment",
})  # fmt: skip
"""Keys that stand in other parts of a page, or that no reader asks for."""
_SAYS_WHICH = ("name", "method", "source", "experiment", "kind")
"""Keys by which a mapping is called in a list."""


def settings(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What was run, known settings first, the rest under their own names."""
    known = {name: _setting(key, metadata[key]) for key, name in _NAMES.items() if key in metadata}
    rest = {
        in_words(str(key)).capitalize(): _setting(str(key), value)
        for key, value in metadata.items()
        if key not in _NAMES and key not in _ELSEWHERE
    }
    return {name: value for name, value in (known | rest).items() if value != ABSENT}


def asked(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What the run was asked for, a line each; what was left out is not there."""
    found: dict[str, str] = {}
    for key, value in (metadata.get("asked") or {}).items():
        if isinstance(value, Mapping):
            inside = {f"{key} {name}": one for name, one in value.items()}
        else:
            inside = {str(key): value}
        found |= {in_words(name).capitalize(): _setting(name, one) for name, one in inside.items()}
    return {name: text for name, text in found.items() if text != ABSENT}


def command(metadata: Mapping[str, Any]) -> str:
    """The command line that made the run, as it can be typed."""
    value = metadata.get("command") or ""
    return value if isinstance(value, str) else shlex.join(str(word) for word in value)


def cautions(record: Record, elsewhere: Collection[str] = ()) -> tuple[str, ...]:
    """What a reader of any page has to keep in mind: about the weights, and the run's warnings.

    Args:
        record: The run.
        elsewhere: Warnings that stand in another part of the page.
    """
    note = str(record.metadata.get("weights_note") or "")
    return tuple(text for text in dict.fromkeys((note, *record.warnings))
                 if text and text not in elsewhere)  # fmt: skip


def setup(record: Record, leave_out: Collection[str] = ()) -> Section:
    """The part of a page that says what was run.

    Args:
        record: The run.
        leave_out: Keys of its metadata that stand elsewhere on the page.
    """
    metadata = {key: value for key, value in record.metadata.items() if key not in leave_out}
    versions = {str(k): _text(v) for k, v in (metadata.get("versions") or {}).items()}
    typed = command(metadata)
    tables = (
        ("settings", "Settings", settings(metadata), False),
        ("asked", "Asked for", asked(metadata), True),
        ("software", "Software", versions, False),
    )
    return Section(
        name="setup",
        title="What was run",
        blocks=(
            *((Command(text=typed),) if typed else ()),
            *(
                names_and_values(name, title, pairs.items(), is_folded=is_folded)
                for name, title, pairs, is_folded in tables
                if pairs
            ),
        ),
    )


def method_name(metadata: Mapping[str, Any], method: str) -> str:
    """A method's name for people, as its registry row has it; one without a row keeps its own."""
    about = (metadata.get("methods") or {}).get(method) or {}
    return str(about.get("title") or method)


def cite(record: Record) -> Section | None:
    """The works behind the methods and analyses of a run."""
    methods = record.metadata.get("methods") or {}
    rows = [(about.get("title") or name, about["citation"]) for name, about in methods.items()
            if about.get("citation")]  # fmt: skip
    rows += [(one["title"], one["citation"]) for one in record.metadata.get("analyses") or ()]
    if not rows:
        return None
    table = Table(
        name="works",
        title="Works",
        columns=(Column(name="used"), Column(name="cite")),
        rows=tuple((Cell(text=str(used)), Cell(text=str(work))) for used, work in rows),
    )
    said = "Cite the paper whose method you used."
    return Section(name="cite", title="How to cite", blocks=(Text(text=said), table))


def _setting(key: str, value: Any) -> str:
    if key in ("started", "finished") and isinstance(value, str):
        return _moment(value)
    if key == "seconds" and isinstance(value, int | float):
        return format_duration(value)
    if key == "estimate" and isinstance(value, Mapping):
        return f"{format_duration(value['seconds'])}, {memory(value['peak_bytes'])} at the peak"
    if key.startswith("n_") and isinstance(value, int):
        return whole(value)
    return _text(value)


def _moment(text: str) -> str:
    """A time stamp to the minute; one that is not ISO 8601 stays as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%d %H:%M %Z").strip()


def _text(value: Any) -> str:
    if value is None or value in ("", [], (), {}):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_called(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(
            f"{in_words(str(k))} {_text(v)}" for k, v in value.items() if _text(v) != ABSENT
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _called(item: Any) -> str:
    """An item of a list: a mapping by its name."""
    if isinstance(item, Mapping):
        return next((str(item[key]) for key in _SAYS_WHICH if item.get(key)), _text(item))
    return _text(item)
