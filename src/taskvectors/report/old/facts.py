"""What was run, as lists of names and values: settings, notes, sources, parts of the page."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskvectors.format import ABSENT, in_words, memory, whole
from taskvectors.report.old.run import Run
from taskvectors.report.old.wording import duration, method_name
from taskvectors.results.figures import Figure

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
_ELSEWHERE = {"command", "versions", "notes"}
_SOURCES = {
    "learned": (
        "Yang, Cho, Ding, Inoue: Task Vectors, Learned Not Extracted: Performance Gains and "
        "Mechanistic Insights. ICLR 2026.",
        "https://arxiv.org/abs/2509.24169",
    ),
    "vanilla": (
        "Hendel, Geva, Globerson: In-Context Learning Creates Task Vectors. Findings of EMNLP "
        "2023. Here a difference of states that is added.",
        "https://arxiv.org/abs/2310.15916",
    ),
    "icv": (
        "Liu, Ye, Xing, Zou: In-Context Vectors. ICML 2024.",
        "https://arxiv.org/abs/2311.06668",
    ),
    "state-vector": (
        "Li et al.: In-Context Learning State Vector with Inner and Momentum Optimization. "
        "NeurIPS 2024.",
        "https://arxiv.org/abs/2404.11225",
    ),
    "multi-injection": ("Dong et al., ICLR 2026 (TaskV-M).", "https://arxiv.org/abs/2506.09048"),
    "linear": ("Kwon, Choi, Sohn 2026.", "https://arxiv.org/abs/2605.20730"),
    "library": ("ELICIT. ICLR 2025.", "https://arxiv.org/abs/2410.09343"),
    "adaptive": ("Adaptive task vectors, 2025.", "https://arxiv.org/abs/2506.03426"),
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A name and a value, both as text."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A work to cite."""

    text: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: its anchor and its title."""

    anchor: str
    title: str


def settings(config: Mapping[str, Any]) -> list[Fact]:
    """Everything the run was asked for, known settings first, the rest under their own names."""
    known = [
        Fact(name=name, value=_setting(key, config[key]))
        for key, name in _NAMES.items()
        if key in config
    ]
    rest = [
        Fact(name=in_words(str(key)).capitalize(), value=_setting(str(key), value))
        for key, value in config.items()
        if key not in _NAMES and key not in _ELSEWHERE
    ]
    return known + rest


def environment(config: Mapping[str, Any]) -> list[Fact]:
    """Versions of the software."""
    versions = config.get("versions") or {}
    return [Fact(name=str(name), value=_text(value)) for name, value in versions.items()]


def command(config: Mapping[str, Any]) -> str:
    """The command line that made the run, as it can be typed."""
    value = config.get("command") or ""
    return value if isinstance(value, str) else shlex.join(str(word) for word in value)


def notes(run: Run, hidden: Sequence[str]) -> list[str]:
    """Remarks of the run and of its rows, and which columns the report does not show."""
    found = [str(note) for note in run.config.get("notes") or []]
    for row in run.measurements:
        if row.note:
            place = f" ({row.configuration})" if row.configuration else ""
            found.append(f"{method_name(row.method)}{place}: {row.note}")
    stopped = [row for row in run.measurements if row.converged is False and not row.is_control]
    if stopped:
        layers = ", ".join(_text(list(row.layers)) for row in stopped)
        found.append(f"Still improving when the steps ran out, at layers: {layers}.")
    if hidden:
        found.append(f"Columns without any value are not shown: {', '.join(hidden)}.")
    return list(dict.fromkeys(found))


def sources(run: Run) -> list[Source]:
    """The works behind the methods that this run used."""
    used = {row.method for row in run.measurements}
    return [
        Source(text=text, address=address)
        for method, (text, address) in _SOURCES.items()
        if method in used
    ]


def sections(run: Run, figures: Sequence[Figure], has_notes: bool) -> list[Section]:
    """The parts that this run has something to put in, in the order of the page."""
    drawn = {figure.name for figure in figures}
    is_there = {
        "results": ("Results", bool(run.measurements)),
        "by-layer": ("Accuracy by layer", "accuracy-by-layer" in drawn),
        "controls": ("Controls", any(row.is_control for row in run.measurements)),
        "examples": ("Example answers", bool(run.examples)),
        "learning": ("Learning", bool(drawn - {"accuracy-by-layer"})),
        "setup": ("What was run", True),
        "notes": ("Notes", has_notes),
        "rows": ("All measurements", bool(run.measurements)),
        "cite": ("How to cite", True),
    }
    return [Section(anchor=key, title=title) for key, (title, there) in is_there.items() if there]


def _setting(key: str, value: object) -> str:
    if key in ("started", "finished") and isinstance(value, str):
        return _moment(value)
    if key == "seconds" and isinstance(value, int | float):
        return duration(value)
    if key == "estimate" and isinstance(value, Mapping):
        return f"{duration(value['seconds'])}, {memory(value['peak_bytes'])} at the peak"
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


def _text(value: object) -> str:
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
