"""A tiny model and a tiny task on disk, and a way to run a command on them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from taskvectors.cli import main

WORDS = ["".join(letters) for letters in product("bcdf", "aei", "klmn")]


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written to the user's own data; nothing is hushed for other tests."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def without_bars() -> None:
    """The command line switches bars off before transformers is imported; here it has been."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture
def tv(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`tv("learn", "--task", ...)`: run a command in this process."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return Said(code=code, out=said.out, err=said.err)

    return run


@pytest.fixture(scope="session")
def model_folder(
    without_bars: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Callable[..., Any],
    tokenizer: Any,
) -> Callable[[str], Path]:
    """`model_folder(name)`: a small model as `save_pretrained` writes it."""
    folders: dict[str, Path] = {}

    def written(name: str) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp("models") / f"tiny-{name}"
            tiny_model(name).hf.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[name] = folder
        return folders[name]

    return written


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 words and the same words backwards."""
    path = tmp_path_factory.mktemp("tasks") / "backwards.json"
    path.write_text(json.dumps([{"input": word, "output": word[::-1]} for word in WORDS]))
    return path


@pytest.fixture(scope="session")
def on_model(model_folder: Callable[[str], Path]) -> list[object]:
    """The flags that name the small model."""
    return ["--model", model_folder("llama"), "--dtype", "float32"]


@pytest.fixture(scope="session")
def on_both(on_model: list[object], task_file: Path) -> list[object]:
    """The flags that name the small model and the small task."""
    sizes = ["--n-train", 24, "--n-validation", 8, "--n-test", 16]
    return [*on_model, "--task", task_file, *sizes]


@pytest.fixture
def vector(tv: Callable[..., Said], on_both: list[object], tmp_path: Path) -> Path:
    """A vector of the small model, at two layers."""
    folder = tmp_path / "vector"
    steps = ["--steps", 2, "--seed", 1]
    said = tv("learn", *on_both, *steps, "--layers", 1, 2, "--out", folder)
    assert said.code == 0, said.err
    return folder
