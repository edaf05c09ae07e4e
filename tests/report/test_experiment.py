"""The tables of an experiment: a row per case, the published value beside ours.

Run with `pytest tests/report/test_experiment.py`.
"""

from collections.abc import Callable

import pytest

from taskvectors.report import page_of
from taskvectors.report.experiment_tables import tables_of
from taskvectors.report.table import NOTHING, Table
from taskvectors.results import Published, Record

Reproduced = Callable[..., Record]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def tables(reproduced: Reproduced) -> list[Table]:
    return tables_of(reproduced())


def texts(table: Table) -> tuple[list[str], list[list[str]]]:
    return table.headings, table.texts


def rows_of(table: Table) -> dict[str, dict[str, str]]:
    headings, rows = texts(table)
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows}


def test_a_case_is_a_row_and_a_task_a_column(tables: list[Table]) -> None:
    accuracy, logprob, _ = tables
    assert [column.name for column in accuracy.columns] == [
        "method", "capital", "capital, published", "antonym",
    ]  # fmt: skip
    assert len(accuracy.rows) == 2
    assert rows_of(accuracy)["learned"]["capital"] == "0.760 [0.660, 0.860]"
    assert rows_of(logprob)["learned"]["capital"] == f"{MINUS}1.5"
    assert [table.name for table in tables[:2]] == ["results", "results-2"]


def test_more_measures_than_two_stand_side_by_side(reproduced: Reproduced) -> None:
    case = {"model": "m", "method": "learned", "seed": 0}
    rows = [
        case | {"task": task, "measure": measure, "value": 0.5}
        for task in ("a", "b")
        for measure in ("share", "parameters", "seconds")
    ]
    run = reproduced(rows=rows, published=())
    (table,) = tables_of(run)
    assert [column.name for column in table.columns] == ["task", "share", "parameters", "seconds"]
    two = reproduced(rows=[rows[0], rows[3] | {"method": "icl"}])
    table = tables_of(two)[0]
    assert texts(table) == (
        ["method", "a", "b"], [["learned", "0.500", "\N{EN DASH}"], ["icl", "\N{EN DASH}", "0.500"]]
    )  # fmt: skip


def test_measures_that_no_case_shares_and_analyses_have_tables_of_their_own(
    reproduced: Reproduced,
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
    run = reproduced(rows=rows, config={"shown": ["accuracy"]}, published=())
    found = tables_of(run)
    assert [table.title for table in found] == [
        "OV reconstruction", "Path expansion", "Path expansion: whole",
    ]  # fmt: skip
    assert [column.name for column in found[0].columns] == ["variant", "accuracy"]
    assert [column.name for column in found[2].columns] == ["whole"]


def test_the_tokens_of_a_lens_are_one_cell_in_their_order(reproduced: Reproduced) -> None:
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
    record = reproduced(rows=rows, config=config, published=())
    (table,) = tables_of(record)
    headings, found = texts(table)
    assert headings == ["around", "lens", "label rank"]
    assert found == [["vector", "Oslo, Bern", "0.9"], ["random", "ears", NOTHING.text]]
    assert [column.is_number for column in table.columns] == [False, False, True]
    without = [row | {"text": float("nan")} for row in rows[-1:]]
    record = reproduced(rows=without, config=config, published=())
    (table,) = tables_of(record)
    assert texts(table) == (["label rank"], [["0.9"]])


def test_a_mean_over_one_task_is_left_out_and_what_was_published_for_it_stands_beside_the_task(
    reproduced: Reproduced,
) -> None:
    row = {"model": "m", "method": "learned", "measure": "accuracy", "value": 0.5}
    rows = [row | {"task": "a", "seed": 0}, row | {"task": "mean over tasks", "seed": None}]
    published = (
        Published(method="learned", task="mean over tasks", measure="accuracy", value=0.8,
                  source="table 1", model="big"),
    )  # fmt: skip
    run = reproduced(rows=rows, published=published)
    (table,) = tables_of(run)
    assert texts(table)[1] == [["0.500", "0.800 (big)"]]


def test_what_was_not_chosen_is_left_out_and_what_failed_says_why(reproduced: Reproduced) -> None:
    row = {"model": "m", "task": "a", "seed": 0, "measure": "accuracy", "error": None}
    rows = [
        row | {"method": "learned", "selected": True, "value": 0.5},
        row | {"method": "learned", "selected": False, "value": 0.9},
        row
        | {"method": "bitfit", "selected": True, "value": None, "measure": "error"}
        | {"error": "its blocks have no biases"},
    ]
    run = reproduced(rows=rows, published=())
    main, failed = tables_of(run)
    assert texts(main)[1] == [["0.500"]]
    assert texts(failed)[1] == [["a", "bitfit", "its blocks have no biases"]]
    record = reproduced(rows=rows, published=(), config={"shows_candidates": True})
    assert texts(tables_of(record)[0])[1] == [["0.500"], ["0.900"]]


def test_rows_over_all_seeds_stand_for_the_single_ones_and_say_so(tables: list[Table]) -> None:
    assert any("stand for 16 of single seeds" in text for text in tables[0].before)
    assert any("model embedded" in text for text in tables[0].before)
    assert any("Items: capital 40, antonym 40" in text for text in tables[0].before)


def test_a_published_value_stands_beside_ours_with_source_and_model(tables: list[Table]) -> None:
    learned = rows_of(tables[0])["learned"]
    assert learned["capital, published"] == "0.850 (Llama-3.1-8B)"
    assert "Published values of Llama-3.1-8B: table 1." in tables[1].after


def test_a_published_value_without_counterpart_is_shown_alone(reproduced: Reproduced) -> None:
    tables = tables_of(reproduced())
    _, rows = texts(tables[-1])
    assert rows == [["method majority", "accuracy", "0.500", "Llama-3.1-8B, person", "table 1"]]


def test_values_that_were_not_read_are_said_to_be_so(reproduced: Reproduced) -> None:
    unread = Published(measure="accuracy", value="not read", source="figure 3", model="big")
    tables = tables_of(reproduced(published=(unread,)))
    assert tables[-1].after == ("Published values of accuracy: not read (figure 3).",)


def test_a_further_column_tells_cases_apart_only_where_it_has_to(reproduced: Reproduced) -> None:
    row = {"model": "m", "measure": "share", "value": 0.5, "seconds": 1.0}
    rows = [row | {"layer": layer, "seconds": float(layer)} for layer in range(3)]
    run = reproduced(rows=rows)
    table = tables_of(run)[0]
    assert [column.name for column in table.columns] == ["layer", "share"]
    run = reproduced(rows=[row, row])
    assert len(tables_of(run)[0].rows) == 2  # rows that nothing tells apart both stay


def test_intervals_name_n_where_it_differs(reproduced: Reproduced) -> None:
    row = {"model": "m", "measure": "share", "value": 0.5, "low": 0.4, "high": 0.6}
    rows = [row | {"task": task, "n": n} for task, n in (("a", 10), ("b", 20))]
    run = reproduced(rows=rows)
    _, found = texts(tables_of(run)[0])
    assert found == [["a", "0.500 [0.400, 0.600] n = 10"], ["b", "0.500 [0.400, 0.600] n = 20"]]


def test_a_p_value_stands_with_the_smallest_its_test_could_give(reproduced: Reproduced) -> None:
    about = {"model": "m", "task": "a", "seed": 0, "analysis": "rotation", "layer": 3}
    rows = [
        about | {"around": around, "measure": measure, "value": value}
        for around, smallest in (("vector", 1 / 3), ("random", 0.001))
        for measure, value in (("change_p", 0.4), ("smallest_change_p", smallest))
    ]
    record = reproduced(rows=rows, published=(), config={"shown": ["change_p"]})
    (table,) = tables_of(record)
    assert table.headings == ["around", "change p"]
    assert table.texts == [
        ["vector", "0.4 smallest possible 0.3333: decides nothing"],
        ["random", "0.4 smallest possible 0.001"],
    ]


def test_the_page_of_an_experiment_has_its_parts(reproduced: Reproduced) -> None:
    page = page_of(reproduced(warnings=("The weights are random.",)))
    names = [section.name for section in page.sections]
    assert names == ["about", "results", "figures", "setup", "rows"]
    assert page.headline == "Is a learned vector as good as demonstrations?"
    assert page.verdict == "24 measurements of one model, two tasks, two seeds."
    assert page.cautions == ("The weights are random.",)
    assert len(page.figures()) == 2
