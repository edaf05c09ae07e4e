import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskvectors.errors import DataError
from taskvectors.tasks import builtin, load_task


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
