"""Every notebook runs from its first cell to its last, and its page shows what is in it.

Run with `pytest tests/examples`.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 120
PAIRS = {"n_train": 12, "n_validation": 4, "n_test": 8}
FEW: dict[str, dict[str, Any]] = {
    "ten_minutes_with_a_vector": {"SIZES": PAIRS, "STEPS": 2, "LAYER": 1},
    "how_it_works_inside": {"SIZES": PAIRS, "STEPS": 2, "N_PROMPTS": 4},
    "a_learner_from_scratch": {
        "STEPS": 4,
        "ALONE": 2,
        "N_TRIALS": 16,
        "SMALL": {"n_layers": 3, "d_model": 16, "n_heads": 2, "batch_size": 4,
                  "measure_every": 2, "n_curve_trials": 8},
    },
}  # fmt: skip
SAYS = {
    "ten_minutes_with_a_vector": r"cosine of the two: -?\d\.\d\d",
    "how_it_works_inside": r"rank correlation: -?\d\.\d\d",
    "a_learner_from_scratch": "LanguageModel",
}
"""What is in its outputs, or where it failed."""


@pytest.fixture(scope="module")
def tool() -> Any:
    """`tools/notebooks.py`."""
    for package in ("nbclient", "jupytext", "ipykernel"):
        pytest.importorskip(package)
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import notebooks
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return notebooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any, tokenizer: Any) -> Path:
    """A small model with random weights, as `save_pretrained` writes it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama").hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def outputs_of(notebook: Any) -> str:
    """All texts that a notebook shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [str(output.get("text", "")) for output in outputs]
    return "\n".join([*texts, *(str(output.get("data", {})) for output in outputs)])


def test_there_are_three() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SAYS) == set(FEW)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_begins_with_its_title(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST
    assert lines[0] == "# %% [markdown]"
    assert re.fullmatch(r"# # [A-Z].*", lines[1])
    assert sum('tags=["parameters"]' in line for line in lines) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_small_model(
    tool: Any, path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    model = {} if path.stem == "a_learner_from_scratch" else {"MODEL": str(folder)}
    done = tool.run(path, tmp_path, FEW[path.stem] | model)
    assert re.search(SAYS[path.stem], outputs_of(done))
    shown = tool.page(path, done)
    assert shown.startswith(path.read_text().splitlines()[1].removeprefix("# "))
    assert "<table>" in shown
    assert "an interactive chart" in shown
    monkeypatch.setattr(tool, "svg_of", lambda chart: f"<svg>{len(chart['data'])}</svg>")
    monkeypatch.setattr(tool.shutil, "which", lambda name: name)
    with_charts = tool.page(path, done, tmp_path)
    (name,) = re.findall(r"!\[.*?\]\(\.\./images/(.*?\.svg)\)", with_charts)
    assert (tmp_path / name).read_text().startswith("<svg>")
    assert "an interactive chart" not in with_charts


# the others run as they are where tools/notebooks.py writes their pages: it takes minutes
@pytest.mark.slow
def test_a_notebook_runs_as_it_is(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    stem = "ten_minutes_with_a_vector"
    done = tool.run(ROOT / "examples" / f"{stem}.py", tmp_path)
    assert re.search(SAYS[stem], outputs_of(done))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_page_of_a_notebook_has_its_cells(tool: Any, path: Path) -> None:
    import jupytext

    page = (ROOT / "docs" / "notebooks" / f"{path.stem.replace('_', '-')}.md").read_text()
    for cell in jupytext.read(path).cells:
        assert cell.source in page, "run tools/notebooks.py again"
