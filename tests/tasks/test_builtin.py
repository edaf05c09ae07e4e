import json
from pathlib import Path

import pytest

from taskvectors.errors import DataError
from taskvectors.prompts import TEMPLATES
from taskvectors.tasks import builtin, builtin_tasks, describe_builtin
from taskvectors.tasks.builtin import read_builtin


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(builtin, "_DATA", tmp_path)
    for name in ("singular-plural", "capital"):
        write(tmp_path, name)
    (tmp_path / "README.md").write_text("not a task")
    return tmp_path


def write(folder: Path, file_name: str, **changes: object) -> None:
    task = {
        "name": file_name,
        "description": "d",
        "template": "qa",
        "source": "s",
        "license": "l",
        "pairs": [{"input": str(n), "output": "x"} for n in range(9)],
    }
    task = {key: value for key, value in (task | changes).items() if value is not None}
    (folder / f"{file_name}.json").write_text(json.dumps(task), encoding="utf-8")


def test_the_tasks_are_the_json_files_of_the_folder_sorted(data_folder: Path) -> None:
    assert builtin_tasks() == ("capital", "singular-plural")


def test_a_description_has_provenance_and_size(data_folder: Path) -> None:
    summary = describe_builtin("capital")
    assert (summary.name, summary.description, summary.template) == ("capital", "d", "qa")
    assert (summary.source, summary.license, summary.n) == ("s", "l", 9)


def test_an_unknown_name_is_an_error_with_close_names(data_folder: Path) -> None:
    with pytest.raises(DataError, match=r"no task is called 'capitol'; did you mean capital\?"):
        describe_builtin("capitol")


def test_without_a_close_name_all_are_listed(data_folder: Path) -> None:
    with pytest.raises(DataError, match="there are: capital, singular-plural"):
        read_builtin("zzz")


@pytest.mark.parametrize("field", ["description", "template", "source", "license", "pairs"])
def test_a_built_in_task_must_have_every_field(field: str, data_folder: Path) -> None:
    write(data_folder, "broken", **{field: None})
    with pytest.raises(DataError, match=f"field '{field}' is missing"):
        read_builtin("broken")


def test_a_built_in_task_must_be_named_like_its_file(data_folder: Path) -> None:
    write(data_folder, "broken", name="other")
    with pytest.raises(DataError, match="an object whose name is 'broken'"):
        read_builtin("broken")


@pytest.mark.parametrize("name", builtin_tasks())
def test_every_file_of_the_package_is_well_formed(name: str) -> None:
    data = read_builtin(name)  # fields, clean strings
    inputs = [pair.input for pair in data.splits["train"]]
    assert len(inputs) == len(set(inputs))
    assert data.notes == ()  # no further fields
    assert data.template in TEMPLATES
    assert all((data.description, data.source, data.license))
