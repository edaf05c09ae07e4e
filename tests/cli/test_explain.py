"""`taskvectors explain` on a small random model, from words to JSON and a page.

Run with `pytest tests/cli/test_explain.py`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from explain.own_analysis import OWN

from taskvectors.explain import ANALYSES, Analysis, register
from taskvectors.results import analysis_tables, read_run

Tv = Callable[..., Any]


@pytest.fixture
def one_vector(tv: Tv, on_both: list[object], tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    steps = ["--steps", 2, "--layers", 1]
    assert tv("learn", *on_both, *steps, "--out", folder).code == 0
    return folder


@pytest.fixture
def other_vector(tv: Tv, on_model: list[object], tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    steps = ["--steps", 2, "--layers", 1]
    sizes = ["--n-train", 24, "--n-validation", 8, "--n-test", 16]
    assert tv("learn", *on_model, *sizes, "--task", "antonym", *steps, "--out", folder).code == 0
    return folder


def test_every_analysis_says_what_a_page_of_it_needs() -> None:
    for name, analysis in ANALYSES.items():
        assert analysis.name == name
        assert analysis.question.endswith("?")
        assert analysis.caption.endswith(".")
        assert analysis.citation


@pytest.mark.slow(small_models=True)
def test_explain_runs_every_analysis_and_writes_a_page_for_each(
    tv: Tv, on_both: list[object], one_vector: Path, other_vector: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    asked = ["explain", "--vector", one_vector, *on_both, "--out", folder]
    asked += ["--shots", 2, "--limit", 8, "--other-vector", other_vector, "--figures", "png", "svg"]
    said = tv(*asked, "--json")
    assert said.code == 0, said.err
    found = said.json
    names = [name for name, one in ANALYSES.items() if one.needs == "vector"]
    assert [one["analysis"] for one in found["findings"]] == names
    assert all(one["finding"] and not one["error"] for one in found["findings"])
    assert {row["analysis"] for row in found["rows"]} == set(names)
    record = read_run(folder)
    tables = analysis_tables(record.frame, record.metadata["analyses"])
    assert {name: len(table) for name, table in tables.items()} == {
        name: sum(row["analysis"] == name for row in found["rows"]) for name in names
    }
    assert {Path(path).name for path in found["figures"]} == {
        f"{name}.{form}" for name in names for form in ("png", "svg")
    }
    page = Path(found["report"]).read_text(encoding="utf-8")
    for name in names:
        assert f'<section id="{name}"' in page
    # a finished run is not run again
    again = tv(*asked)
    assert again.code == 0, again.err
    assert "done (" not in again.err


def test_an_analysis_that_has_no_meaning_is_refused_and_the_others_run(
    tv: Tv, on_both: list[object], vector: Path, tmp_path: Path
) -> None:
    asked = ["explain", "--vector", vector, *on_both, "--limit", 8]
    asked += ["--other-vector", "none", "--analyses", "ov-reconstruction", "key-heads"]
    said = tv(*asked, "--out", tmp_path / "run", "--json", "--debug")
    assert said.code == 0, said.err
    found = said.json
    refused, done = found["findings"]
    assert "it follows one vector up from one layer" in refused["error"]
    assert done["finding"]
    alone = tv(*asked[:-1], "--out", tmp_path / "alone")
    assert alone.code == 2
    assert "has no meaning for" in alone.err


def test_what_cannot_be_explained_is_said_in_one_line(
    tv: Tv, on_both: list[object], tmp_path: Path
) -> None:
    said = tv("explain", *on_both)
    assert said.code == 2
    assert "--vector: give the folder of a vector" in said.err


# --- an analysis that is stated in `explain/own_analysis.py` of these tests, and nowhere else


@pytest.fixture
def own() -> Iterator[Analysis]:
    yield register(OWN)
    ANALYSES.unregister(OWN.name)


def test_an_analysis_of_ones_own_is_a_choice_of_the_command_line(own: Analysis, tv: Tv) -> None:
    said = tv("explain", "--help")
    assert own.name in said.out
    assert own.name not in tv("explain", "--analyses", own.name).err.partition("see ")[0]
    wrong = tv("explain", "--analyses", "own-nroms")
    assert wrong.code == 2
    assert own.name in wrong.err


def test_an_analysis_of_ones_own_is_run_printed_and_reported(
    own: Analysis, tv: Tv, on_both: list[object], vector: Path, tmp_path: Path
) -> None:
    asked = ["explain", "--vector", vector, *on_both, "--analyses", own.name]
    said = tv(*asked, "--out", tmp_path / "run", "--json")
    assert said.code == 0, said.err
    (one,) = said.json["findings"]
    assert one["analysis"] == own.name
    assert one["finding"].startswith("length ")
    (row,) = said.json["rows"]
    assert row["length"] > 0
    page = Path(said.json["report"]).read_text(encoding="utf-8")
    for text in (own.title, own.question, own.citation, own.caption):
        assert text in page


def test_an_analysis_of_ones_own_is_estimated(own: Analysis, tv: Tv, on_both: list[object]) -> None:
    asked = ["estimate", "explain", *on_both, "--device", "h100", "--layers", 1]
    said = tv(*asked, "--analyses", own.name, "--json")
    assert said.code == 0, said.err
    (one,) = [row for row in said.json["rows"] if row["name"].startswith(own.name)]
    assert one["name"] == "own-norms, reading"
    assert one["seconds"] > 0
