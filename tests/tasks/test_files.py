import gzip
import importlib.util
from pathlib import Path

import pytest

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.tasks import Example
from taskvectors.tasks.columns import Columns
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
    "separated.csv": 'input;output\nFrance;Paris\nCôte d\'Ivoire;"a, ""b""\nc"\n',
    "tabs.csv": 'output\tinput\nParis\tFrance\n"a, ""b""\nc"\tCôte d\'Ivoire\n',
    "excel.csv": 'sep=;\ninput;output\nFrance;Paris\nCôte d\'Ivoire;"a, ""b""\nc"\n',
    "lines.ndjson": """{"input": "France", "output": "Paris"}
{"output": "a, \\"b\\"\\nc", "input": "Côte d'Ivoire"}
""",
    "data.json": """{"data": [{"input": "France", "output": "Paris"},
        {"input": "Côte d'Ivoire", "output": "a, \\"b\\"\\nc"}]}""",
    "mapping.json": """{"France": "Paris", "Côte d'Ivoire": "a, \\"b\\"\\nc"}""",
    "UPPER.CSV": 'input,output\nFrance,Paris\nCôte d\'Ivoire,"a, ""b""\nc"\n',
    "bom.csv": '\ufeffinput,output\nFrance,Paris\nCôte d\'Ivoire,"a, ""b""\nc"\n',
}

BAD = [
    ("a.json", "", "not valid JSON at line 1, column 1"),
    ("a.json", "[1", "not valid JSON at line 1"),
    ("a.json", '"text"', "pairs are a string"),
    ("a.json", '{"France": 3}', "field 'France' is unknown"),
    ("a.json", '{"name": "x"}', "field 'pairs' is missing"),
    ("a.json", '{"name": 3, "pairs": []}', "field 'name' is a whole number"),
    ("a.json", '[["France", "Paris"]]', "row 1: a list"),
    (
        "a.json",
        '[{"input": "a", "output": "b"}, {"input": "a"}]',
        "row 2: no column 'output'; the columns are: 'input'",
    ),
    (
        "a.json",
        '[{"input": "a", "output": 3}]',
        r"row 1: output is a whole number \(3\); .* --labels 3=WORD",
    ),
    ("a.json", '[{"input": "a", "output": true}]', "--labels true=WORD"),
    ("a.json", '[{"input": "a", "output": []}]', "output is an empty list"),
    ("a.json", '[{"input": "a", "output": ["b", 1.5]}]', "a number with a fraction"),
    ("a.json", r'[{"input": "a\ud83d", "output": "b"}]', "half of a character"),
    ("a.json", "[" * 100_000, "nested too deeply"),
    ("a.json", '{"pairs": ' + "1" * 5000 + "}", "too many digits"),
    ("a.json", '[{"input": null, "output": "b"}]', "row 1: input is null"),
    ("a.json", '[{"input": "", "output": "b"}]', "row 1: input is empty"),
    ("a.json", '[{"input": "a", "output": " b"}]', "row 1: output ' b' begins or ends"),
    ("a.json", '[{"input": "a", "input": "b", "output": "c"}]', "'input' is there twice"),
    ("a.jsonl", '{"input": "a", "output": "b"}\n\n{"input": 1', "row 3: not valid JSON"),
    ("a.jsonl", '{"input": "a", "output": "b"}\nnonsense\n', "row 2: not valid JSON"),
    ("a.jsonl", "", "the file is empty"),
    ("a.csv", "", "the file is empty"),
    ("a.csv", "France,Paris\n", "row 1: no column 'input'; .* 'France', 'Paris'; .*--input-column"),
    ("a.csv", "input,output,input\n1,2,3\n", "row 1: the header names 'input' 2 times"),
    ("a.csv", "input,output\na,b\nc\n", "row 3: 1 fields where the header names 2"),
    ("a.csv", "input,output\na,b,c\n", "row 2: 3 fields where the header names 2"),
    ("a.csv", 'input,output\na,"b\n', "row 2: unexpected end of data"),
    ("a.csv", "input,output\na,\n", "row 2: output is empty"),
    ("a.tsv", "input,output\na,b\n", "row 1: no column 'input'; .* 'input,output'"),
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
        ({"input": ["a", "b"], "label": ["c", "d"]}, "row 1: no column 'output'"),
        ({"input": ["a", "b"], "output": ["c", None]}, "row 2: output is null"),
        ({"input": ["a", "b"], "output": [0, 1]}, "row 1: output is a whole number"),
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
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TaskVectorsError, match=r"taskvectors\[demo\]"):
        read_file(path)


# --- data as people have it

LABELLED = Columns(input="text", output="label", labels={"0": "negative", "1": "positive"})
GOOD_BAD = (Example(input="good", output="positive"), Example(input="bad", output="negative"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "label,text\n1,good\n0,bad\n"),
        ("x.tsv", "text\tlabel\ngood\t1\nbad\t0\n"),
        ("x.jsonl", '{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'),
        ("x.json", '{"data": [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]}'),
    ],
)
def test_columns_are_named_and_labels_given_words(name: str, text: str, tmp_path: Path) -> None:
    assert read_file(write(tmp_path, name, text), LABELLED).splits == {"train": GOOD_BAD}


def test_truth_values_are_labels(tmp_path: Path) -> None:
    columns = Columns(labels={"true": "yes", "false": "no"})
    path = write(tmp_path, "x.json", '[{"input": "a", "output": true}]')
    assert read_file(path, columns).splits["train"][0].output == "yes"
    with pytest.raises(DataError, match=r"output 'maybe' has no word; .* true, false"):
        read_file(write(tmp_path, "x.json", '[{"input": "a", "output": "maybe"}]'), columns)


def test_a_label_without_a_word_says_how_to_give_one(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", "text,label\na,2\n")
    with pytest.raises(DataError, match=r"label '2' has no word; .* --labels 2=WORD"):
        read_file(path, LABELLED)


def test_class_names_in_a_parquet_file_are_the_words(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "fine"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    rows.to_parquet(tmp_path / "x.parquet")
    columns = Columns(input="text", output="label")
    data = read_file(tmp_path / "x.parquet", columns)
    assert [pair.output for pair in data.splits["train"]] == ["fine", "bad"]
    assert "the file names its labels: 0 bad, 1 fine" in data.notes
    own = read_file(
        tmp_path / "x.parquet", Columns(input="text", output="label", labels={"0": "n", "1": "y"})
    )
    assert [pair.output for pair in own.splits["train"]] == ["y", "n"]


def test_a_list_is_several_right_answers_and_the_first_is_shown(tmp_path: Path) -> None:
    text = '[{"input": "Britain", "output": ["UK", "United Kingdom", "UK"]}]'
    (pair,) = read_file(write(tmp_path, "x.json", text)).splits["train"]
    assert pair == Example(input="Britain", output="UK", also=("United Kingdom",))
    assert pair.answers == ("UK", "United Kingdom")
    mapped = read_file(write(tmp_path, "y.json", '{"Britain": ["UK", "United Kingdom"]}'))
    assert mapped.splits["train"] == (pair,)
    assert mapped.notes == ("read as 1 inputs, each with its output",)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_blank_lines_are_skipped_and_counted(name: str, tmp_path: Path) -> None:
    rows = {
        "x.csv": "\ninput,output\n\na,b\n , \nc,d\n\n",
        "x.jsonl": '{"input": "a", "output": "b"}\n\n \n{"input": "c", "output": "d"}\n\n',
    }
    data = read_file(write(tmp_path, name, rows[name]))
    assert data.splits["train"] == (Example(input="a", output="b"), Example(input="c", output="d"))
    assert any("blank lines skipped" in note for note in data.notes)


def test_a_row_after_a_separator_line_and_blank_ones_is_counted_as_an_editor_does(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "x.csv", "sep=;\n\ninput;output\na;b\nc\n")
    with pytest.raises(DataError, match="row 5: 1 fields where the header names 2"):
        read_file(path)


def test_blanks_at_the_ends_are_removed_on_request_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "x.csv", "input,output\n a ,b\nc, d\n")
    with pytest.raises(DataError, match="--strip"):
        read_file(path)
    data = read_file(path, Columns(strip=True))
    assert data.splits["train"] == (Example(input="a", output="b"), Example(input="c", output="d"))
    assert "blanks at the ends of 2 texts were removed" in data.notes


def test_quotes_in_a_tsv_file_are_text(tmp_path: Path) -> None:
    rows = [f"{n}\t{n}" for n in range(20)]
    rows[3], rows[7] = '"begins\t3', '7\tends"'
    data = read_file(write(tmp_path, "x.tsv", "input\toutput\n" + "\n".join(rows) + "\n"))
    assert len(data.splits["train"]) == 20
    assert data.splits["train"][3].input == '"begins'
    assert "quotes in a .tsv file are part of the text" in data.notes


def test_what_separates_columns_is_said_where_it_was_guessed(tmp_path: Path) -> None:
    data = read_file(write(tmp_path, "x.csv", "input;output\na,1;b\n"))
    assert data.splits["train"] == (Example(input="a,1", output="b"),)
    assert data.notes == ("columns are separated by semicolons",)
    comma = read_file(write(tmp_path, "y.csv", "input,output\na;1,b\n"))
    assert comma.splits["train"] == (Example(input="a;1", output="b"),)
    assert comma.notes == ()


SPLIT_FILES = {
    "x.csv": "split,input,output\ntrain,a,1\nTest,b,2\ndev,c,3\n",
    "x.json": """{"train": [{"input": "a", "output": "1"}], "test": [{"input": "b", "output": "2"}],
        "valid": [{"input": "c", "output": "3"}]}""",
}
OWN = {
    "train": (Example(input="a", output="1"),),
    "test": (Example(input="b", output="2"),),
    "validation": (Example(input="c", output="3"),),
}


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_own_splits_of_one_file_are_kept(name: str, tmp_path: Path) -> None:
    data = read_file(write(tmp_path, name, SPLIT_FILES[name]))
    assert data.splits == OWN
    assert any("split" in note for note in data.notes)


def test_a_folder_has_one_file_a_split(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "input,output\na,1\n")
    write(tmp_path, "dev.jsonl", '{"input": "c", "output": "3"}\n')
    write(tmp_path, "test.tsv", "input\toutput\nb\t2\n")
    write(tmp_path, "README.md", "not a split")
    assert read_file(tmp_path).splits == OWN
    write(tmp_path, "validation.csv", "input,output\nc,3\n")
    with pytest.raises(DataError, match=r"dev\.jsonl and validation\.csv are both the validation"):
        read_file(tmp_path)


def test_a_folder_without_a_train_file_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, "test.tsv", "input\toutput\nb\t2\n")
    with pytest.raises(DataError, match="no train file"):
        read_file(tmp_path)


@pytest.mark.parametrize("name", ["table.csv", "lines.jsonl", "list.json"])
def test_compressed_files_hold_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.gz"
    packed = gzip.compress(GOOD[name].encode())
    path.write_bytes(packed)
    data = read_file(path)
    assert data.splits == {"train": (FRANCE, COTE)}
    assert data.name == name.partition(".")[0]
    for broken in (packed[:-10], b"not gzip", packed[:20] + b"x" * 10 + packed[30:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="not a whole gzip file"):
            read_file(path)


def test_an_excel_sheet_has_rows_like_a_table(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["output", "input", None], ["Paris", "France", None], [], ["4", 2, None]]:
        book.active.append(row)
    book.create_sheet("notes")
    book.save(tmp_path / "x.xlsx")
    data = read_file(tmp_path / "x.xlsx")
    assert data.splits["train"] == (FRANCE, Example(input="2", output="4"))
    assert "sheets left out: notes" in data.notes
    assert "1 whole numbers in input are read as text" in data.notes
    (tmp_path / "x.xlsx").write_bytes(b"PK no book")
    with pytest.raises(DataError, match="not a readable Excel file"):
        read_file(tmp_path / "x.xlsx")


def test_a_message_is_short_whatever_the_value_is(tmp_path: Path) -> None:
    text = f'[{{"input": "{"x" * 1_000_000} ", "output": "b"}}]'
    with pytest.raises(DataError) as error:
        read_file(write(tmp_path, "x.json", text))
    assert len(str(error.value)) < 400 + len(str(tmp_path))
