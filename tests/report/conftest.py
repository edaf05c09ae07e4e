"""Records as the other parts of the project make them, small, and changeable by a test."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskvectors.results.columns import Columns
from taskvectors.results.figures import AnyFigure, Figure, Heatmap, Series
from taskvectors.results.pivot import ComparisonRow
from taskvectors.results.record import AnsweredItem, Published, Record, frame_of

CONFIG: dict[str, Any] = {
    "command": "taskvectors compare --task capital --methods zero-shot icl vanilla learned",
    "model": "gemma3-270m",
    "family": "gemma3",
    "dtype": "bfloat16",
    "task": "capital",
    "description": "The capital of a country.",
    "template": "qa",
    "seed": 0,
    "n_train": 89,
    "n_validation": 29,
    "n_test": 79,
    "shots": 8,
    "versions": {"taskvectors": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    "weights_note": "de-quantised from 4 bits",
    "started": "2026-03-01T10:00:00+00:00",
    "seconds": 287.4,
    "notes": ["The task has 197 pairs; its splits are 45/15/40 %."],
}
ROW: dict[str, Any] = {
    "method": "",
    "configuration": "",
    "layers": [],
    "positions": [],
    "strength": None,
    "shots": 0,
    "seed": 0,
    "n": 79,
    "accuracy": None,
    "ci_low": None,
    "ci_high": None,
    "first_token_accuracy": None,
    "label_accuracy": None,
    "in_label_set": None,
    "answer_logprob": None,
    "validation_accuracy": None,
    "selected": False,
    "difference_to_icl": None,
    "difference_low": None,
    "difference_high": None,
    "parameters": None,
    "examples": 0,
    "steps": None,
    "seconds": None,
    "seconds_per_step": None,
    "peak_bytes": None,
    "forward_tokens": None,
    "is_control": False,
    "converged": None,
    "note": None,
    "error": None,
}
N_LAYERS = 18
CHOSEN = 9


def row(method: str, accuracy: float | None = None, **values: Any) -> dict[str, Any]:
    """A row of a run; the interval is a rough one unless given."""
    made = ROW | {"method": method, "accuracy": accuracy}
    if accuracy is not None:
        half = 2 * math.sqrt(accuracy * (1 - accuracy) / 79) + 0.01
        made |= {"ci_low": max(0.0, accuracy - half), "ci_high": min(1.0, accuracy + half)}
        made |= {"first_token_accuracy": min(1.0, accuracy + 0.03), "in_label_set": 0.9}
        made |= {"answer_logprob": -3 + 2.5 * accuracy, "seconds": 2.5}
    return made | values


def curve(layer: int, height: float, peak: int) -> float:
    """Something like accuracy by layer, as a share of 29 items."""
    return round(29 * height * math.exp(-(((layer - peak) / 6) ** 2))) / 29


def layer_rows(method: str, accuracy: float, height: float, **values: Any) -> list[dict[str, Any]]:
    """A row per layer of which the chosen one alone was tested."""
    rows = []
    for layer in range(N_LAYERS):
        place = {"configuration": f"layer {layer}", "layers": [layer], "positions": [-1]}
        validated = {"validation_accuracy": curve(layer, height, CHOSEN), "parameters": 640}
        done = {"n": None, **place, **validated, **values}
        if layer == CHOSEN:
            done |= {"selected": True, "n": 79}
        rows.append(row(method, accuracy if layer == CHOSEN else None, **done))
    return rows


def learned_rows(accuracy: float = 0.75, **chosen: Any) -> list[dict[str, Any]]:
    """The learned vector at every layer; `chosen` goes into the selected row."""
    rows = layer_rows("learned", accuracy, 0.8, examples=89, steps=60, seconds=140.0)
    for made in rows:
        made |= {"seconds_per_step": 2.3, "peak_bytes": 1_500_000_000, "forward_tokens": 51_840}
        made["converged"] = made["layers"][0] < 14
    difference = {
        "difference_to_icl": accuracy - 0.7,
        "difference_low": accuracy - 0.78,
        "difference_high": accuracy - 0.62,
    }
    rows[CHOSEN] |= difference | chosen
    return rows


def all_rows() -> list[dict[str, Any]]:
    """Every method and every control."""
    vanilla = layer_rows("vanilla", 0.32, 0.35, examples=89, seconds=6.0)
    vanilla[CHOSEN] |= {"difference_to_icl": -0.38}
    vanilla[CHOSEN] |= {"difference_low": -0.49, "difference_high": -0.26}
    place = {"layers": [CHOSEN], "positions": [-1], "parameters": 640, "is_control": True}
    return [
        row("zero-shot", 0.013, selected=True, validation_accuracy=0.0),
        row("icl", 0.7, selected=True, shots=8, examples=8, validation_accuracy=21 / 29),
        *vanilla,
        *learned_rows(),
        row("majority", 0.025, is_control=True, examples=89),
        row("random", 0.0, **place),
        row("other-task", 0.051, note="antonym", **(place | {"examples": 80})),
        row("shuffled-labels", 0.038, **(place | {"examples": 89})),
        row("logit-bias", 0.063, is_control=True, parameters=262_144, examples=89),
        row("icl-most-shots", 0.747, is_control=True, shots=89, examples=89),
        row("learned-from-shots", 0.443, **(place | {"examples": 8})),
    ]


def examples() -> tuple[AnsweredItem, ...]:
    """Items with answers before and after."""
    said = [
        ("France", "Paris", "The capital of France", "Paris", "Paris"),
        ("Mongolia", "Ulaanbaatar", " Mongolia", "Ulan", "Ulaanbaatar"),
        ("Belize", "Belmopan", "", "Belize City", "Belize City"),
        ("Peru", "Lima", "Lima", "Lima", "Lima"),
        ("Chad", "N'Djamena", "a country", "N'Djamena", "Niamey"),
    ]
    items = []
    for name, answer, *texts in said:
        predictions = dict(zip(("zero-shot", "icl", "learned"), texts, strict=True))
        correct = {method: text == answer for method, text in predictions.items()}
        items.append(
            AnsweredItem(input=name, answer=answer, predictions=predictions, correct=correct)
        )
    return tuple(items)


def metrics() -> list[dict[str, Any]]:
    """A logged loss every fifth step for every layer, and a validation score every twentieth."""
    lines: list[dict[str, Any]] = []
    for step in range(0, 61, 5):
        for layer in range(N_LAYERS):
            end = 0.6 + 0.05 * abs(layer - CHOSEN)
            line = {"method": "learned", "step": step, "layer": layer}
            line["loss"] = end + 3 * math.exp(-step / 12)
            if step % 20 == 0:
                line["validation_accuracy"] = curve(layer, 0.8, CHOSEN) * step / 60
            lines.append(line)
    return lines


METHODS = {
    "zero-shot": {"title": "Zero-shot"},
    "icl": {"title": "In-context learning", "citation": "Brown et al. 2020, arXiv 2005.14165"},
    "vanilla": {"title": "Vanilla vector", "citation": "Hendel et al. 2023, arXiv 2310.15916"},
    "learned": {"title": "Learned vector", "citation": "Yang et al. 2026, arXiv 2509.24169"},
    "other-task": {"title": "Another task's vector"},
    "logit-bias": {"title": "Constant logit bias"},
}
"""What a run keeps of the registry rows of its methods."""


def compared(
    rows: list[dict[str, Any]] | None = None,
    config: dict[str, Any] | None = None,
    folder: Path | None = None,
    **more: Any,
) -> Record:
    """A comparison.

    Args:
        rows: Wide rows; the usual ones by default.
        config: On top of the usual metadata.
        folder: Where it lies.
        more: Further fields of the record.
    """
    wide = [ComparisonRow(**one) for one in (all_rows() if rows is None else rows)]
    tidy = [
        one.as_row(model="gemma3-270m", task="capital")
        for row in wide
        for one in row.measurements()
    ]
    own: dict[str, Any] = {"examples": examples(), "curves": pd.DataFrame(metrics())} | more
    metadata = CONFIG | {"methods": METHODS} | (config or {})
    return Record(kind="compare", metadata=metadata, frame=frame_of(tidy), folder=folder, **own)


EXPERIMENT: dict[str, Any] = {
    "experiment": "ltv-main-table",
    "title": "Accuracy by method and place",
    "question": "Is a learned vector as good as demonstrations?",
    "paper": "Yang et al. 2026, table 1",
    "what_the_paper_did": "Four models, seven tasks.",
    "what_we_do_otherwise": "Whole answers; layers are chosen on validation items.",
    "models": ["embedded"],
    "tasks": ["capital", "antonym"],
    "seeds": [0, 1],
    "preset": "cpu",
    "command": "taskvectors reproduce ltv-main-table --preset cpu",
    "versions": {"taskvectors": "0.1.0", "torch": "2.13.0"},
    "device": "cpu",
    "warnings": ["The weights are de-quantised from 4 bits."],
}


def measurement(task: str, method: str, seed: int | None, value: float, **more: Any) -> Any:
    """A row of an experiment's long table."""
    made = {"experiment": "ltv-main-table", "model": "embedded", "task": task, "method": method}
    made |= {"layers": "[9]" if method == "learned" else "[]", "positions": "[-1]", "shots": 0}
    made |= {"seed": seed, "configuration": "last token", "measure": "accuracy", "value": value}
    return made | {"low": value - 0.1, "high": value + 0.1, "n": 40, "seconds": 1.5} | more


def experiment_rows() -> list[Any]:
    """Two methods on two tasks, two seeds and the row over both, two measures."""
    rows = []
    for task, base in (("capital", 0.7), ("antonym", 0.4)):
        for method, gain in (("icl", 0.0), ("learned", 0.06)):
            for seed, shift in ((0, -0.02), (1, 0.02), (None, 0.0)):
                rows.append(measurement(task, method, seed, base + gain + shift))
                logprob = {"measure": "answer_logprob", "low": None, "high": None}
                rows.append(measurement(task, method, seed, -1.5, **logprob))
    return rows


def experiment_figures() -> tuple[AnyFigure, ...]:
    """A chart and a heatmap."""
    curve = Figure(
        name="by-task",
        title="Accuracy by <task>",
        x_label="Task",
        y_label="Accuracy",
        series=(Series(label="all", x=(0, 1), y=(0.76, 0.46), low=(0.6, 0.3), high=(0.9, 0.5)),),
        x_ticks=((0, "capital"), (1, "antonym")),
        shares=True,
        caption="Bars are 95 % intervals.",
    )  # fmt: skip
    table = Heatmap(
        name="transfer",
        title="Transfer",
        x_label="Vector of",
        y_label="Asked",
        columns=("capital", "antonym"),
        rows=("capital", "antonym"),
        values=((0.8, 0.1), (None, 0.5)),
        value_label="accuracy",
        shares=True,
    )
    return (curve, table)


PUBLISHED = (
    Published(task="capital", method="learned", measure="accuracy", value=0.85, source="table 1",
              model="Llama-3.1-8B"),
    Published(task="person", method="majority", measure="accuracy", value=0.5, source="table 1",
              model="Llama-3.1-8B"),
)  # fmt: skip


def reproduced(
    rows: list[Any] | None = None,
    config: dict[str, Any] | None = None,
    folder: Path | None = None,
    **more: Any,
) -> Record:
    """The run of an experiment.

    Args:
        rows: Tidy rows; what they lack is absent.
        config: On top of the usual metadata.
        folder: Where it lies.
        more: Further fields of the record.
    """
    own = {"figures": experiment_figures(), "published": PUBLISHED} | more
    return Record(
        kind="experiment",
        metadata=EXPERIMENT | (config or {}),
        frame=frame_of(experiment_rows() if rows is None else rows),
        folder=folder,
        **own,
    )


def explained(
    analyses: dict[str, tuple[list[dict[str, Any]], AnyFigure | None]],
    columns: dict[str, Columns],
    folder: Path | None = None,
    **more: Any,
) -> Record:
    """A run of analyses: rows and figure by name; one without rows was refused."""
    about, tidy = [], []
    for name, (rows, _) in analyses.items():
        about.append(
            {"name": name, "title": name.title(), "question": "What?", "citation": "someone",
             "error": None if rows else "has no meaning for a <vector>",
             "columns": asdict(columns[name])}
        )  # fmt: skip
        tidy += [one.as_row() for one in columns[name].measurements(name, rows)]
    metadata = {
        "task": "capital", "model": "tiny", "method": "learned", "layers": [9], "positions": [-1],
        "analyses": about, "weights_note": "from 4 bits", "n_heads": 4, "n_key_value_heads": 1,
        "versions": {}, "seconds": 3.0,
    }  # fmt: skip
    figures = tuple(figure for _, figure in analyses.values() if figure is not None)
    own = {"figures": figures} | more
    return Record(kind="explain", metadata=metadata, frame=frame_of(tidy), folder=folder, **own)


@pytest.fixture(name="row")
def row_fixture() -> Callable[..., dict[str, Any]]:
    """A function that makes one wide row; see `row`."""
    return row


@pytest.fixture(name="learned_rows")
def learned_rows_fixture() -> Callable[..., list[dict[str, Any]]]:
    """A function that makes the rows of a learned vector at every layer."""
    return learned_rows


@pytest.fixture(name="compared", scope="session")
def compared_fixture() -> Callable[..., Record]:
    """A function that makes a comparison; see `compared`."""
    return compared


@pytest.fixture(name="reproduced", scope="session")
def reproduced_fixture() -> Callable[..., Record]:
    """A function that makes the run of an experiment; see `reproduced`."""
    return reproduced


@pytest.fixture(name="explained", scope="session")
def explained_fixture() -> Callable[..., Record]:
    """A function that makes a run of analyses; see `explained`."""
    return explained
