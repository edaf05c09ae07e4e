"""A run folder as the other parts of the project write it, small, and changeable by a test."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskvectors.results.figures import AnyFigure, Figure, Heatmap, Series

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
    "configuration": None,
    "layers": [],
    "positions": [],
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


def examples() -> list[dict[str, Any]]:
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
            {"input": name, "answer": answer, "predictions": predictions, "correct": correct}
        )
    return items


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


def write_run(folder: Path, **pieces: Any) -> Path:
    """A run folder.

    Args:
        folder: Made if need be.
        pieces: `rows`, `config` (on top of the usual one), `examples`, `metrics`; `None` leaves the
            file out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | pieces.get("config", {})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    pd.DataFrame(pieces.get("rows") or all_rows()).to_parquet(folder / "results.parquet")
    for name, usual in (("examples", examples), ("metrics", metrics)):
        lines = pieces[name] if name in pieces else usual()
        if lines is not None:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


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


def experiment_figures() -> list[dict[str, Any]]:
    """A chart and a heatmap, as a run describes them."""
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
    return [{"kind": type(one).__name__, **asdict(one)} for one in (curve, table)]


PUBLISHED: list[dict[str, Any]] = [
    {"task": "capital", "method": "learned", "measure": "accuracy", "value": 0.85,
     "source": "table 1", "model": "Llama-3.1-8B"},
    {"task": "person", "method": "majority", "measure": "accuracy", "value": 0.5,
     "source": "table 1", "model": "Llama-3.1-8B"},
]  # fmt: skip


def write_experiment(folder: Path, **pieces: Any) -> Path:
    """The folder of an experiment's run.

    Args:
        folder: Made if need be.
        pieces: `rows`, `config` (on top of the usual one), `figures`, `published`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config": EXPERIMENT | pieces.get("config", {}),
        "published": pieces.get("published", PUBLISHED),
        "figures": pieces.get("figures", experiment_figures()),
    }
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    pd.DataFrame(pieces.get("rows") or experiment_rows()).to_parquet(folder / "results.parquet")
    return folder


def write_explanation(
    folder: Path, analyses: dict[str, tuple[list[dict[str, Any]], AnyFigure | None]]
) -> Path:
    """The folder of a run of analyses: rows and figure by name; one without rows was refused."""
    folder.mkdir(parents=True, exist_ok=True)
    about = [
        {"name": name, "title": name.title(), "question": "What?", "source": "someone",
         "summary": f"numbers of {name.title()}",
         "seconds": 1.5, "error": None if rows else "has no meaning for a <vector>"}
        for name, (rows, _) in analyses.items()
    ]  # fmt: skip
    config = {
        "command": "explain", "task": "capital", "model": "tiny", "method": "learned",
        "layers": [9], "positions": [-1], "analyses": about, "weights_note": "from 4 bits",
        "n_heads": 4, "n_key_value_heads": 1, "versions": {}, "seconds": 3.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    figures = {
        name: {"kind": type(figure).__name__, **asdict(figure)}
        for name, (_, figure) in analyses.items()
        if figure is not None
    }
    (folder / "figures.json").write_text(json.dumps(figures))
    rows = [{"analysis": name, **row} for name, (found, _) in analyses.items() for row in found]
    if rows:
        pd.DataFrame(rows).to_parquet(folder / "results.parquet", index=False)
    return folder


@pytest.fixture(name="write_experiment", scope="session")
def write_experiment_fixture() -> Callable[..., Path]:
    """A function that writes the folder of an experiment; see `write_experiment`."""
    return write_experiment


@pytest.fixture(name="write_explanation", scope="session")
def write_explanation_fixture() -> Callable[..., Path]:
    """A function that writes the folder of a run of analyses; see `write_explanation`."""
    return write_explanation


@pytest.fixture(name="row")
def row_fixture() -> Callable[..., dict[str, Any]]:
    """A function that makes one row; see `row`."""
    return row


@pytest.fixture(name="learned_rows")
def learned_rows_fixture() -> Callable[..., list[dict[str, Any]]]:
    """A function that makes the rows of a learned vector at every layer."""
    return learned_rows


@pytest.fixture(name="write_run", scope="session")
def write_run_fixture() -> Callable[..., Path]:
    """A function that writes a run folder anywhere; see `write_run`."""
    return write_run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a run folder; see `write_run` for what can be changed."""
    return lambda **pieces: write_run(tmp_path / "run", **pieces)
