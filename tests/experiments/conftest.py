"""A model and a task as a user has them: in a folder, and in a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments.wide import rows_in
from recipes import from_zero


@pytest.fixture(scope="session", autouse=True)
def made_up_device(no_device_is_measured: None) -> None:
    """Estimates wait for nothing to be measured."""


@pytest.fixture(scope="session")
def model_folder(tiny_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama as transformers saves it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama").hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs; three of four have the same answer."""
    path = tmp_path_factory.mktemp("tasks") / "mostly-cold.json"
    pairs = [
        {"input": "ab"[i % 2] * (i % 3) + str(i), "output": "rouge house" if i % 4 == 0 else "cold"}
        for i in range(40)
    ]
    path.write_text(json.dumps(pairs))
    return path


@pytest.fixture(scope="session")
def asked(model_folder: Path, task_file: Path) -> Callable[..., Any]:
    """`asked(**changes)`: the config of a small comparison."""
    from taskvectors.experiments import CompareConfig, ModelConfig
    from taskvectors.methods.icl import InContext
    from taskvectors.methods.learned import Learned
    from taskvectors.methods.vanilla import Vanilla
    from taskvectors.methods.zero_shot import ZeroShot

    recipe = from_zero(steps=16, batch_size=8, learning_rate=0.4, check_every=8)

    def make(**changes: Any) -> CompareConfig:
        given = {
            "model": ModelConfig(source=str(model_folder), dtype="float32"),
            "task": str(task_file),
            "template": "arrow",
            "shots": 2,
            "n_train": 12,
            "n_validation": 6,
            "n_test": 8,
            "methods": (
                ZeroShot(),
                InContext(),
                Vanilla(strengths=(1.0, 2.0), n_prompts=4),
                Learned(recipe=recipe),
            ),
            "controls": ("majority", "random"),
            "n_shown": 2,
        }
        return CompareConfig(**given | changes)

    return make


TAKEN = ("seconds", "seconds_per_step", "peak_bytes")
"""What a repetition measures anew."""


@pytest.fixture(scope="session")
def without_time() -> Callable[..., list[dict[str, Any]]]:
    """`without_time(comparison)`: its rows, without what a repetition measures anew."""

    def strip(found: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in TAKEN} for row in rows_in(found)]

    return strip


@pytest.fixture(scope="session")
def finished(asked: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small comparison, run without disturbance; its folder is only to be read."""
    from taskvectors.experiments import compare

    return compare(asked(), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the methods and controls that are worked out, as they are."""
    from dataclasses import replace

    from taskvectors.methods import METHODS
    from taskvectors.methods.controls import CONTROLS

    names: list[str] = []

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            names.append(name)
            return work(*given)

        return run

    for name, method in METHODS.items():
        counting = replace(method, find=counted(name, method.find))
        monkeypatch.setitem(METHODS._entries, name, counting)
    for name, control in CONTROLS.items():
        counting = replace(control, make=counted(name, control.make))
        monkeypatch.setitem(CONTROLS._entries, name, counting)
    return names
