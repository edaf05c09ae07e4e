"""The report of an experiment: a row per case, the published value beside ours.

Run with `pytest tests/report/test_experiment.py`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import DataError
from taskvectors.report.old import read_any, read_experiment, write_figures, write_report
from taskvectors.report.old.experiment_tables import grids_of_experiment
from taskvectors.report.old.grid import NOTHING, Grid, plain_texts

Write = Callable[..., Path]


MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def grids(tmp_path: Path, write_experiment: Write) -> list[Grid]:
    return grids_of_experiment(read_experiment(write_experiment(tmp_path)))


def rows_of(grid: Grid) -> dict[str, dict[str, str]]:
    headings, rows = plain_texts(grid)
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows}


def test_a_case_is_a_row_and_a_task_a_column(grids: list[Grid]) -> None:
    accuracy, logprob, _ = grids
    assert [column.name for column in accuracy.columns] == [
        "method", "capital", "capital, published", "antonym",
    ]  # fmt: skip
    assert len(accuracy.cells) == 2
    assert rows_of(accuracy)["learned"]["capital"] == "0.760 [0.660, 0.860]"
    assert rows_of(logprob)["learned"]["capital"] == f"{MINUS}1.5"
    assert [grid.name for grid in grids[:2]] == ["results", "results-2"]


def test_more_measures_than_two_stand_side_by_side(tmp_path: Path, write_experiment: Write) -> None:
    case = {"model": "m", "method": "learned", "seed": 0}
    rows = [
        case | {"task": task, "measure": measure, "value": 0.5}
        for task in ("a", "b")
        for measure in ("share", "parameters", "seconds")
    ]
    run = read_experiment(write_experiment(tmp_path, rows=rows, published="not read"))
    (grid,) = grids_of_experiment(run)
    assert [column.name for column in grid.columns] == ["task", "share", "parameters", "seconds"]
    two = write_experiment(tmp_path / "two", rows=[rows[0], rows[3] | {"method": "icl"}])
    grid = grids_of_experiment(read_experiment(two))[0]
    assert plain_texts(grid) == (
        ["method", "a", "b"], [["learned", "0.500", "\N{EN DASH}"], ["icl", "\N{EN DASH}", "0.500"]]
    )  # fmt: skip


def test_measures_that_no_case_shares_and_analyses_have_tables_of_their_own(
    tmp_path: Path, write_experiment: Write
) -> None:
    rows = [
        {"model": "m", "task": "a", "seed": 0, "measure": measure, "value": 0.5}
        | {"analysis": analysis, "variant": variant, "configuration": f"variant {variant}"}
        for analysis, measure, variants in (
            ("path-expansion", "effect", ("vector", "mlps")),
            ("path-expansion", "whole", (None,)),
            ("ov-reconstruction", "accuracy", ("paper", "path")),
        )
        for variant in variants
    ]
    run = read_experiment(
        write_experiment(tmp_path, rows=rows, config={"shown": ["accuracy"]}, published="not read")
    )
    found = grids_of_experiment(run)
    assert [grid.title for grid in found] == [
        "OV reconstruction", "Path expansion", "Path expansion: whole",
    ]  # fmt: skip
    assert [column.name for column in found[0].columns] == ["variant", "accuracy"]
    assert [column.name for column in found[2].columns] == ["whole"]


def test_the_tokens_of_a_lens_are_one_cell_in_their_order(
    tmp_path: Path, write_experiment: Write
) -> None:
    about = {"task": "capital", "model": "m", "analysis": "lens", "layer": 3, "measure": "lens"}
    rows = [
        about
        | {"around": around, "at": float(at), "text": text, "value": 9.0 - at,
           "configuration": f"{around}-{at}"}
        for around, texts in (("vector", (" Oslo", "Bern")), ("random", ("ears",)))
        for at, text in enumerate(texts)
    ]  # fmt: skip
    rows.append(about | {"around": "vector", "measure": "label_rank", "value": 0.9})
    config = {"shown": ["label_rank", "lens"]}
    folder = write_experiment(tmp_path, rows=rows, config=config, published=[])
    (grid,) = grids_of_experiment(read_experiment(folder))
    headings, found = plain_texts(grid)
    assert headings == ["around", "lens", "label rank"]
    assert found == [["vector", "Oslo, Bern", "0.9"], ["random", "ears", NOTHING.text]]
    assert [column.is_number for column in grid.columns] == [False, False, True]
    without = [row | {"text": float("nan")} for row in rows[-1:]]
    folder = write_experiment(tmp_path / "without", rows=without, config=config, published=[])
    (grid,) = grids_of_experiment(read_experiment(folder))
    assert plain_texts(grid) == (["label rank"], [["0.9"]])


def test_a_mean_over_one_task_is_left_out_and_what_was_published_for_it_stands_beside_the_task(
    tmp_path: Path, write_experiment: Write
) -> None:
    row = {"model": "m", "method": "learned", "measure": "accuracy", "value": 0.5}
    rows = [row | {"task": "a", "seed": 0}, row | {"task": "mean over tasks", "seed": None}]
    published = [{"method": "learned", "task": "mean over tasks", "measure": "accuracy",
                  "value": 0.8, "source": "table 1", "model": "big"}]  # fmt: skip
    run = read_experiment(write_experiment(tmp_path, rows=rows, published=published))
    (grid,) = grids_of_experiment(run)
    assert plain_texts(grid)[1] == [["0.500", "0.800 (big)"]]


def test_what_was_not_chosen_is_left_out_and_what_failed_says_why(
    tmp_path: Path, write_experiment: Write
) -> None:
    row = {"model": "m", "task": "a", "seed": 0, "measure": "accuracy", "error": None}
    rows = [
        row | {"method": "learned", "selected": True, "value": 0.5},
        row | {"method": "learned", "selected": False, "value": 0.9},
        row
        | {"method": "bitfit", "selected": True, "value": None, "measure": "error"}
        | {"error": "its blocks have no biases"},
    ]
    run = read_experiment(write_experiment(tmp_path, rows=rows, published="not read"))
    main, failed = grids_of_experiment(run)
    assert plain_texts(main)[1] == [["0.500"]]
    assert plain_texts(failed)[1] == [["a", "bitfit", "its blocks have no biases"]]
    folder = write_experiment(
        tmp_path / "all", rows=rows, published="not read", config={"shows_candidates": True}
    )
    assert plain_texts(grids_of_experiment(read_experiment(folder))[0])[1] == [["0.500"], ["0.900"]]


def test_rows_over_all_seeds_stand_for_the_single_ones_and_say_so(grids: list[Grid]) -> None:
    assert any("stand for 16 of single seeds" in text for text in grids[0].before)
    assert any("model embedded" in text for text in grids[0].before)
    assert any("Items: capital 40, antonym 40" in text for text in grids[0].before)


def test_a_published_value_stands_beside_ours_with_source_and_model(grids: list[Grid]) -> None:
    learned = rows_of(grids[0])["learned"]
    assert learned["capital, published"] == "0.850 (Llama-3.1-8B)"
    assert "Published values of Llama-3.1-8B: table 1." in grids[1].after


def test_a_published_value_without_counterpart_is_shown_alone(
    tmp_path: Path, write_experiment: Write
) -> None:
    grids = grids_of_experiment(read_experiment(write_experiment(tmp_path)))
    _, rows = plain_texts(grids[-1])
    assert rows == [["method majority", "accuracy", "0.5", "Llama-3.1-8B, person", "table 1"]]


def test_values_that_were_not_read_are_said_to_be_so(
    tmp_path: Path, write_experiment: Write
) -> None:
    run = read_experiment(write_experiment(tmp_path, published="not read"))
    assert grids_of_experiment(run)[-1].after == ("Published values: not read.",)


def test_a_further_column_tells_cases_apart_only_where_it_has_to(
    tmp_path: Path, write_experiment: Write
) -> None:
    row = {"model": "m", "measure": "share", "value": 0.5, "seconds": 1.0}
    rows = [row | {"layer": layer, "seconds": float(layer)} for layer in range(3)]
    run = read_experiment(write_experiment(tmp_path, rows=rows))
    grid = grids_of_experiment(run)[0]
    assert [column.name for column in grid.columns] == ["layer", "share"]
    run = read_experiment(write_experiment(tmp_path, rows=[row, row]))
    assert len(grids_of_experiment(run)[0].cells) == 2  # rows that nothing tells apart both stay


def test_intervals_name_n_where_it_differs(tmp_path: Path, write_experiment: Write) -> None:
    row = {"model": "m", "measure": "share", "value": 0.5, "low": 0.4, "high": 0.6}
    rows = [row | {"task": task, "n": n} for task, n in (("a", 10), ("b", 20))]
    run = read_experiment(write_experiment(tmp_path, rows=rows))
    _, found = plain_texts(grids_of_experiment(run)[0])
    assert found == [["a", "0.500 [0.400, 0.600] n = 10"], ["b", "0.500 [0.400, 0.600] n = 20"]]


def test_the_page_has_its_parts_and_escapes_what_it_is_given(
    tmp_path: Path, write_experiment: Write
) -> None:
    folder = write_experiment(tmp_path, config={"title": "A <b>title</b>"})
    page = write_report(folder).read_text(encoding="utf-8")
    for anchor in ("about", "results", "figures", "setup", "rows"):
        assert f'<section id="{anchor}"' in page
        assert f'<a href="#{anchor}">' in page
    assert "A &lt;b&gt;title" in page
    assert "taskvectors reproduce ltv-main-table --preset cpu" in page
    assert "The weights are de-quantised from 4 bits." in page
    assert 'id="chart-transfer"' in page


def test_figures_of_every_kind_of_run_are_written_as_files(
    tmp_path: Path, write_experiment: Write, write_run: Write
) -> None:
    found = write_figures(read_any(write_experiment(tmp_path / "a")), ("png", "svg"))
    assert [path.name for path in found] == [
        "by-task.png", "by-task.svg", "transfer.png", "transfer.svg",
    ]  # fmt: skip
    compared = write_figures(read_any(write_run(tmp_path / "b")), ("svg",))
    assert compared[0].name == "accuracy-by-layer.svg"
    assert compared[0].read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("piece", "value", "match"),
    [
        ("config", {"title": None}, "lacks the keys title"),
        ("published", [{"measure": "accuracy"}], "lacks the keys of value 1 value, source"),
        ("published", "unknown", "expected a list of values or 'not read'"),
        ("figures", [{"kind": "Pie"}], "does not describe figures"),
        ("rows", [{"task": "capital"}], "lacks the columns measure, value"),
    ],
)
def test_a_run_that_lacks_something_is_an_error_that_names_it(
    tmp_path: Path, write_experiment: Write, piece: str, value: Any, match: str
) -> None:
    folder = write_experiment(tmp_path, **{piece: value})
    if piece == "config":
        config = json.loads((folder / "config.json").read_text())
        del config["title"]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=match):
        read_experiment(folder)


def test_an_experiment_without_results_yet_says_to_go_on(
    tmp_path: Path, write_experiment: Write
) -> None:
    folder = write_experiment(tmp_path)
    (folder / "results.parquet").unlink()
    with pytest.raises(DataError, match="goes on where it stopped"):
        write_report(folder)
