"""A run folder as the other parts of the project write it, small, and changeable by a test."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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
