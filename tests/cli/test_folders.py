"""Where runs and vectors are put. Run with `pytest tests/cli/test_folders.py`."""

import re
from pathlib import Path

import pytest

from taskvectors.cli.folders import check_room_for_vector, folder_for
from taskvectors.errors import DataError


def test_a_folder_that_is_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_for("here/run", "runs", "demo") == tmp_path / "here" / "run"


def test_a_new_folder_is_named_after_what_is_run(own_data_folder: Path) -> None:
    folder = folder_for("", "runs", "compare", "data/my pairs.csv", "owner/Model-1.5B")
    assert folder.parent == own_data_folder / "taskvectors" / "runs"
    assert re.fullmatch(r"compare-my-pairs\.csv-Model-1\.5B-\d{8}-\d{6}", folder.name)


def test_two_runs_of_one_second_get_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskvectors.cli.folders.time.strftime", lambda form: "now")
    first = folder_for("", "runs", "demo")
    first.mkdir(parents=True)
    second = folder_for("", "runs", "demo")
    second.mkdir()
    third = folder_for("", "runs", "demo")
    assert [first.name, second.name, third.name] == ["demo-now", "demo-now-2", "demo-now-3"]


@pytest.mark.parametrize("kind", ["file", "other folder", "below a file"])
def test_what_is_there_is_seen_before_the_work_is_done(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "other folder":
        place.mkdir()
        (place / "notes.txt").touch()
    else:
        place.touch()
    with pytest.raises(DataError, match="place"):
        check_room_for_vector(place / "vector" if kind == "below a file" else place)


def test_an_empty_folder_and_an_old_vector_have_room(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "vector"
    check_room_for_vector(folder)
    assert not folder.exists()
    folder.mkdir()
    check_room_for_vector(folder)
    (folder / "vector.safetensors").touch()
    (folder / "config.json").touch()
    check_room_for_vector(folder)
