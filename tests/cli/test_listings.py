"""`--dry-run`, `runs`, `vectors` and `report --open`.

Run with `pytest tests/cli/test_listings.py`.
"""

import re
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tv = Callable[..., Any]
SIZES = ("--n-train", 12, "--n-validation", 6, "--n-test", 8)


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--methods", "icl", "vanilla", *SIZES),
        ("learn", "--layers", 1, *SIZES),
        ("extract", "--method", "vanilla", *SIZES),
    ],
)
def test_a_dry_run_loads_the_task_alone_and_leaves_nothing(
    *, tv: Tv, words: tuple[object, ...], task_file: Path, tmp_path: Path
) -> None:
    place = ("--out", tmp_path / "out", "--dry-run", "--json")
    said = tv(*words, "--task", task_file, "--model", "no/such-model", *place)
    assert said.code == 0, said.err
    data = said.json
    assert (data["dry_run"], data["verb"], data["n_test"]) == (True, words[0], 8)
    assert not (tmp_path / "out").exists()
    wrong = tv(*words, "--task", tmp_path / "none.csv", "--model", "no/such-model", *place)
    assert wrong.code == 2
    assert "none.csv" in wrong.err


def test_a_dry_run_of_a_learner_an_experiment_and_analyses(
    tv: Tv, vector: Path, tmp_path: Path
) -> None:
    place = ("--out", tmp_path / "out", "--dry-run", "--json")
    assert (
        tv("train", "--task", "offset", "--steps", 7, "--icl-steps", 3, *place).json["steps"] == 7
    )
    said = tv("reproduce", "ltv-layer-sweep", "--preset", "smoke", *place)
    assert said.code == 0, said.err
    (groups,) = said.json["groups"]
    assert int(groups.split()[0]) > 0
    said = tv("explain", "--vector", vector, "--analyses", "lens", "--model", "no/such", *place)
    assert said.code == 0, said.err
    assert said.json["analyses"] == ["lens"]
    assert not (tmp_path / "out").exists()


def test_a_run_whose_model_cannot_be_loaded_leaves_no_folder(
    tv: Tv, task_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("compare", "--task", task_file, *SIZES, "--out", out, "--methods", "icl")
    assert tv(*words, "--model", tmp_path / "no-model.gguf").code == 2
    assert not out.exists()
    wrong = tv(*words, "--model", tmp_path / "no-model.gguf")
    assert "The run is in" not in wrong.err
    out.mkdir()  # one that the user made stays
    assert tv(*words, "--model", tmp_path / "no-model.gguf").code == 2
    assert out.is_dir()


@pytest.mark.parametrize("verb", ["compare", "explain", "reproduce", "train"])
def test_what_is_wrong_is_said_before_there_is_a_folder(
    *, tv: Tv, verb: str, vector: Path, tmp_path: Path
) -> None:
    no_task = tmp_path / "none.csv"
    words: dict[str, tuple[object, ...]] = {
        "compare": ("--task", no_task, "--model", "no/such-model"),
        "explain": ("--vector", vector, "--task", no_task, "--model", "no/such-model"),
        "reproduce": ("ltv-layer-sweep", "--preset", "smoke", "--tasks", no_task),
        "train": ("--task", tmp_path / "none.py"),
    }
    said = tv(verb, *words[verb], "--out", tmp_path / "new" / "run")
    assert said.code == 2
    assert re.search(r"^error: .*none\.", said.err, re.M), said.err
    assert "Loading the model" not in said.err
    assert "The run is in" not in said.err
    assert not (tmp_path / "new").exists()


def test_a_run_says_where_it_is(tv: Tv, on_both: list[object], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "run"
    words = ("compare", *on_both, "--methods", "icl", "--controls", "--no-report", "--out", out)
    said = tv(*words)
    assert said.code == 0, said.err
    assert said.err.index("Loading the model") < said.err.index(f"The run is in {out}; with --out")


def test_vectors_are_listed_with_damaged_ones_said(tv: Tv, vector: Path, tmp_path: Path) -> None:
    from taskvectors import TaskVector

    TaskVector.load(vector).save(tmp_path / "all" / "good")
    TaskVector.load(vector).save(tmp_path / "all" / "run" / "best-vector")
    TaskVector.load(vector).save(tmp_path / "all" / "bad")
    (tmp_path / "all" / "bad" / "config.json").write_text("{")
    rows = tv("vectors", tmp_path / "all", "--json").json["rows"]
    found = {Path(row["folder"]).name: row["method"] for row in rows}
    assert found == {"good": "learned", "best-vector": "learned", "bad": "damaged"}
    assert "good" in tv("vectors", tmp_path / "all").out
    assert tv("vectors", tmp_path / "none").code == 2
    assert tv("vectors").out == "There is no vector yet.\n"


def test_runs_are_listed_and_a_report_is_opened(
    *, tv: Tv, on_both: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    words = ("compare", *on_both, "--methods", "icl", "--shots", 1, "--controls", "majority")
    said = tv(*words, "--out", tmp_path / "runs" / "one", "--no-report")
    assert said.code == 0, said.err
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "two" / "config.json").write_text('{"kind": "train"}')
    listed = tv("runs", tmp_path / "runs", "--json").json["rows"]
    rows = {Path(row["folder"]).name: row for row in listed}
    assert rows["one"]["state"] == "finished"
    assert (rows["two"]["kind"], rows["two"]["state"]) == ("train", "not finished")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda page: not opened.append(page))
    assert tv("report", tmp_path / "runs" / "one", "--open").code == 0
    assert opened == [(tmp_path / "runs" / "one" / "report.html").as_uri()]
