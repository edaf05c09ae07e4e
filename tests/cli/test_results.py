"""How results are printed. Run with `pytest tests/cli/test_results.py`."""

import json
import math

import pytest

from taskvectors.cli.results import Result, Table, print_result


def printed(result: Result, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    print_result(result, as_json=as_json)
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_numbers_that_are_none_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"rows": [{"a": math.nan, "b": math.inf, "c": 0.5, "layers": (4, "embed")}]}
    out = printed(Result(data=data, shown=[]), capsys, as_json=True)
    assert json.loads(out) == {"rows": [{"a": None, "b": None, "c": 0.5, "layers": [4, "embed"]}]}


def test_json_holds_no_character_that_a_terminal_may_not_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = printed(Result(data={"answer": "Yaoundé"}, shown=[]), capsys, as_json=True)
    assert out.isascii()
    assert json.loads(out) == {"answer": "Yaoundé"}


def test_json_has_no_table_and_a_table_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(data={"n": 1}, shown=["one"])
    assert json.loads(printed(result, capsys, as_json=True)) == {"n": 1}
    assert printed(result, capsys) == "one\n"


def test_a_file_gets_whole_lines_and_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "word " * 60
    table = Table(headings=("name", "text"), rows=[("[bold]x[/bold]", long.strip())])
    lines = printed(Result(data={}, shown=[table, long]), capsys).splitlines()
    assert [line for line in lines if "[bold]x[/bold]" in line and long.strip() in line]
    assert long in lines


def test_numbers_are_set_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(headings=("n", "t"), rows=[("1", "a"), ("100", "b")], numbers=frozenset({"n"}))
    lines = printed(Result(data={}, shown=[table]), capsys).splitlines()
    one, hundred = (line for line in lines if line.rstrip().endswith(("a", "b")))
    assert one.index("1") == hundred.index("1") + 2
