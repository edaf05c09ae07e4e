import sys
from pathlib import Path

import pytest

from taskvectors.errors import DataError
from taskvectors.tasks import Example
from taskvectors.tasks.files import read_file

FRANCE = Example(input="France", output="Paris")
COTE = Example(input="Côte d'Ivoire", output='a, "b"\nc')

GOOD = {
    "list.json": """[{"input": "France", "output": "Paris"},
        {"input": "Côte d'Ivoire", "output": "a, \\"b\\"\\nc"}]""",
    "object.json": """{"name": "n", "pairs": [{"input": "France", "output": "Paris"},
        {"input": "Côte d'Ivoire", "output": "a, \\"b\\"\\nc"}]}""",
    "lines.jsonl": """{"input": "France", "output": "Paris"}
{"output": "a, \\"b\\"\\nc", "input": "Côte d'Ivoire"}
""",
    "table.csv": 'input,output\nFrance,Paris\nCôte d\'Ivoire,"a, ""b""\nc"\n',
    "table.tsv": 'output\tinput\nParis\tFrance\n"a, ""b""\nc"\tCôte d\'Ivoire\n',
    "UPPER.CSV": 'input,output\nFrance,Paris\nCôte d\'Ivoire,"a, ""b""\nc"\n',
    "bom.csv": '\ufeffinput,output\nFrance,Paris\nCôte d\'Ivoire,"a, ""b""\nc"\n',
}

BAD = [
    ("a.json", "", "not valid JSON at line 1, column 1"),
    ("a.json", "[1", "not valid JSON at line 1"),
    ("a.json", '"text"', "pairs are a string"),
    ("a.json", '{"France": "Paris"}', "field 'France' is unknown"),
    ("a.json", '{"name": "x"}', "field 'pairs' is missing"),
    ("a.json", '{"name": 3, "pairs": []}', "field 'name' is a number"),
    ("a.json", '[["France", "Paris"]]', "row 1: a list"),
    ("a.json", '[{"input": "a", "output": "b"}, {"input": "a"}]', "row 2: no field 'output'"),
    ("a.json", '[{"input": "a", "output": 3}]', r"row 1: output is a number \(3\)"),
    ("a.json", '[{"input": null, "output": "b"}]', "row 1: input is null"),
    ("a.json", '[{"input": "", "output": "b"}]', "row 1: input is empty"),
    ("a.json", '[{"input": "a", "output": " b"}]', "row 1: output ' b' begins or ends"),
    ("a.json", '[{"input": "a", "input": "b", "output": "c"}]', "'input' is there twice"),
    ("a.jsonl", '{"input": "a", "output": "b"}\n\n{"input": 1', "row 2: the line is empty"),
    ("a.jsonl", '{"input": "a", "output": "b"}\nnonsense\n', "row 2: not valid JSON"),
    ("a.jsonl", "", "row 1: the line is empty"),
    ("a.csv", "", "the file is empty"),
    ("a.csv", "France,Paris\n", "row 1: the header names 'input' 0 times"),
    ("a.csv", "input,output,input\n1,2,3\n", "row 1: the header names 'input' 2 times"),
    ("a.csv", "input,output\na,b\nc\n", "row 3: 1 fields where the header names 2"),
    ("a.csv", "input,output\na,b,c\n", "row 2: 3 fields where the header names 2"),
    ("a.csv", "input,output\na,b\n\nc,d\n", "row 3: 0 fields"),
    ("a.csv", 'input,output\na,"b\n', "row 2: unexpected end of data"),
    ("a.csv", "input,output\na,\n", "row 2: output is empty"),
    ("a.tsv", "input,output\na,b\n", "row 1: the header names 'input' 0 times"),
    ("a.txt", "France Paris", ".txt is not one of .json"),
    ("a", "France Paris", "no suffix is not one of"),
]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", GOOD)
def test_every_format_gives_the_same_pairs(name: str, tmp_path: Path) -> None:
    data = read_file(write(tmp_path, name, GOOD[name]))
    assert data.splits == {"train": (FRANCE, COTE)}
    assert data.notes == ()
    assert data.template == "qa"
    assert data.source.endswith(name)


@pytest.mark.parametrize(("name", "text", "reason"), BAD)
def test_a_malformed_file_is_an_error_with_file_row_and_reason(
    name: str, text: str, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(DataError, match=reason) as error:
        read_file(path)
    assert str(path) in str(error.value)


def test_the_object_form_keeps_what_the_file_says_of_itself(tmp_path: Path) -> None:
    text = """{"name": "n", "description": "d", "template": "arrow", "source": "s",
        "license": "l", "pairs": [{"input": "a", "output": "b"}]}"""
    data = read_file(write(tmp_path, "x.json", text))
    said = (data.name, data.description, data.template, data.source, data.license)
    assert said == ("n", "d", "arrow", "s", "l")


def test_a_plain_file_is_named_after_itself(tmp_path: Path) -> None:
    assert read_file(write(tmp_path, "mine.csv", GOOD["table.csv"])).name == "mine"
    assert read_file(write(tmp_path, "mine.json", GOOD["list.json"])).name == "mine"


def test_extra_columns_are_left_out_and_reported(tmp_path: Path) -> None:
    data = read_file(write(tmp_path, "x.csv", "id,input,output,split\n1,a,b,test\n"))
    assert data.splits == {"train": (Example(input="a", output="b"),)}
    assert data.notes == ("fields left out: id, split",)


def test_a_unicode_line_separator_does_not_end_a_row(tmp_path: Path) -> None:
    expected = {"train": (Example(input="a\u2028b", output="c"),)}
    table = write(tmp_path, "x.csv", "input,output\na\u2028b,c\n")
    lines = write(tmp_path, "x.jsonl", '{"input": "a\u2028b", "output": "c"}\n')
    assert read_file(table).splits == expected
    assert read_file(lines).splits == expected


def test_a_file_that_is_not_utf8_is_an_error_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("input,output\nCôte,b\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 14 is not UTF-8"):
        read_file(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_file(tmp_path / "x.json")


def write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_columns_become_pairs(tmp_path: Path) -> None:
    columns = {"output": ["Paris", COTE.output], "input": ["France", COTE.input], "id": [1, 2]}
    data = read_file(write_parquet(tmp_path / "x.parquet", columns))
    assert data.splits == {"train": (FRANCE, COTE)}
    assert data.notes == ("fields left out: id",)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"input": ["a", "b"], "label": ["c", "d"]}, "row 1: no field 'output'"),
        ({"input": ["a", "b"], "output": ["c", None]}, "row 2: output is null"),
        ({"input": ["a", "b"], "output": [0, 1]}, "row 1: output is a number"),
    ],
)
def test_malformed_parquet_is_an_error(
    columns: dict[str, list[object]], reason: str, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "x.parquet", columns)
    with pytest.raises(DataError, match=reason):
        read_file(path)


def test_a_file_that_only_claims_to_be_parquet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_file(write(tmp_path, "x.parquet", "hello"))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "x.parquet", "")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"taskvectors\[demo\]"):
        read_file(path)
