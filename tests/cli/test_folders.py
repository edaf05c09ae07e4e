"""Where runs and vectors are put. Run with `pytest tests/cli/test_folders.py`."""

import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskvectors.cli.folders import folder_for, room_for_vector
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
    out = place / "vector" if kind == "below a file" else place
    with pytest.raises(DataError, match="place"), room_for_vector(out):
        pass


def test_an_empty_folder_and_an_old_vector_have_room(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "vector"
    for made in ((), ("vector.safetensors", "config.json")):
        with room_for_vector(folder):
            assert {path.name for path in folder.parent.glob("*/*")} == {*made}
        folder.mkdir(exist_ok=True)
        for name in ("vector.safetensors", "config.json"):
            (folder / name).touch()


def test_a_second_process_that_makes_a_vector_in_the_same_folder_is_told(tmp_path: Path) -> None:
    told = pytest.raises(DataError, match="another process works on")
    first, other = room_for_vector(tmp_path / "vector"), room_for_vector(tmp_path / "other")
    with first, other, told, room_for_vector(tmp_path / "vector"):
        pass
    with room_for_vector(tmp_path / "vector"):  # it has ended
        pass


@pytest.mark.parametrize("reason", ["full", "read-only", "a name that is too long"])
def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    folder = tmp_path / ("x" * 300 if reason == "a name that is too long" else "vector")
    if reason == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    if reason == "read-only":

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "mkdtemp", refused)
    with pytest.raises(DataError, match=r"no room|denied|too long"), room_for_vector(folder):
        pass
    assert not list(tmp_path.iterdir())
