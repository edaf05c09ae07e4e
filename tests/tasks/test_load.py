import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskvectors.errors import DataError
from taskvectors.tasks import Example, builtin, load_task


def pairs(n: int) -> list[dict[str, str]]:
    return [{"input": f"in {i}", "output": f"out {i}"} for i in range(n)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([*pairs(20), pairs(1)[0]]), encoding="utf-8")
    return str(path)


def test_a_file_becomes_a_split_task_with_its_seed_and_notes(file: str) -> None:
    task = load_task(file, seed=5, n_train=9, n_validation=3, n_test=8)
    assert (task.name, task.seed, task.source) == ("mine", 5, file)
    assert (len(task.train), len(task.validation), len(task.test)) == (9, 3, 8)
    assert task.notes == ("duplicate pair dropped: 'in 0' -> 'out 0'",)
    assert task != load_task(file, seed=6, n_train=9, n_validation=3, n_test=8)


def test_an_error_of_the_split_names_the_source(tmp_path: Path) -> None:
    path = tmp_path / "few.json"
    path.write_text(json.dumps(pairs(3)), encoding="utf-8")
    with pytest.raises(DataError, match=r"few\.json: 3 usable pairs"):
        load_task(str(path))


def test_a_built_in_name_wins_over_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = dict.fromkeys(("description", "template", "source", "license"), "x")
    task = {"name": "capital", **about, "pairs": pairs(20)}
    (tmp_path / "capital.json").write_text(json.dumps(task), encoding="utf-8")
    (tmp_path / "capital").write_text("something else", encoding="utf-8")
    monkeypatch.setattr(builtin, "_DATA", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_task("capital").source == "x"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere.json", "there is no such file"),
        ("no/where", "there is no such file"),
        ("zzz", "no task is called 'zzz'"),
        ("hub:zzz", "no hub preset is called 'zzz'"),
    ],
)
def test_a_source_that_does_not_exist_is_an_error(source: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_task(source)


def test_importing_tasks_and_prompts_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "pyarrow", "numpy", "pandas", "jinja2")
    code = (
        "import sys, taskvectors.tasks, taskvectors.prompts\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["pairs", "mappings", "mapping", "examples", "frame"])
def test_pairs_in_memory_are_a_task_like_any_other(kind: str) -> None:
    listed = [(f"in {i}", f"out {i}") for i in range(20)]
    source: Any = {
        "pairs": listed,
        "mappings": pairs(20),
        "mapping": dict(listed),
        "examples": [Example(input=asked, output=answer) for asked, answer in listed],
        "frame": pd.DataFrame(pairs(20)),
    }[kind]
    task = load_task(source, seed=5, n_train=9, n_validation=3, n_test=8)
    assert len(task.train) == 9
    assert {(pair.input, pair.output) for pair in task.train} < set(listed)


def test_columns_of_a_frame_are_named_and_its_numbers_given_words() -> None:
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(20)], "y": [i % 2 for i in range(20)]})
    task = load_task(frame, input_column="text", output_column="y", labels={0: "no", 1: "yes"})
    assert {(int(one.input[1:]) % 2, one.output) for one in task.train} == {(0, "no"), (1, "yes")}


@pytest.mark.parametrize(
    ("source", "reason"),
    [(3, "a task is a whole number"), ([("a",)], "pair 1 has 1 parts"), ([3], "row 1: a whole")],
)
def test_what_is_no_task_is_said(source: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_task(source)


def test_a_path_and_a_folder_are_sources(file: str, tmp_path: Path) -> None:
    sizes = {"n_train": 9, "n_validation": 3, "n_test": 8}
    assert load_task(Path(file), **sizes) == load_task(file, **sizes)
    folder = tmp_path / "own"
    folder.mkdir()
    for name, some in [("train", pairs(20)[:10]), ("test", pairs(20)[10:])]:
        (folder / f"{name}.json").write_text(json.dumps(some), encoding="utf-8")
    task = load_task(str(folder), **sizes)
    assert all(int(pair.input.split()[1]) >= 10 for pair in task.test)


def test_a_built_in_task_has_columns_of_its_own() -> None:
    with pytest.raises(DataError, match="built-in"):
        load_task("capital", input_column="text")


def test_a_built_in_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "capital").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_task("capital").source != "capital"
