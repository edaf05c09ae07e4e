"""Every example runs with `--fast`, asks a question, and stays short.

Run with `pytest tests/examples`.
"""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
LONGEST = 80
SAYS = {
    "one_vector": r"the learned vector: \d\.\d\d \[",
    "which_layer": r"chosen: layer \d",
    "which_heads": r"key heads: \d+ of \d+",
    "on_the_way": r"<- the vector",
    "adding_up": r"half of the sum +\d\.\d\d \[",
    "formed_by_training": r"tvp-1 +1 +\d\.\d{3}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any, tokenizer: Any) -> Path:
    """A small model with random weights, as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama").hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_there_are_six() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAYS)
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_short_notebook_whose_title_is_a_question(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST
    assert lines[0] == "# %% [markdown]"
    assert re.fullmatch(r"# # [A-Z].*\?", lines[1])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_reads_no_words_of_a_notebooks_kernel(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines up to the one that reads what was asked, as a notebook runs them."""
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    before, reading, _ = re.split(r"(^asked = .*$)", path.read_text(), maxsplit=1, flags=re.M)
    names: dict[str, Any] = {}
    exec(compile(before + reading, path.name, "exec"), names)
    assert names["asked"].fast is False


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_fast_on_a_small_model(
    path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on = [] if path.stem == "formed_by_training" else ["--model", str(folder)]
    monkeypatch.setattr(sys, "argv", [str(path), "--fast", *on])
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(SAYS[path.stem], capsys.readouterr().out)
