"""Files are whole or not there, temporary names cannot be planted, what is read fits its schema.

Run with `pytest tests/test_files.py`.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from taskvectors.errors import DataError
from taskvectors.files import read_json, read_torch, write_whole


class Schema(BaseModel):
    number: int
    names: list[str]


def test_what_is_written_under_a_new_name_has_no_name_that_could_be_planted(
    tmp_path: Path,
) -> None:
    seen = []

    def write(partial: Path) -> None:
        seen.append(partial.name)
        assert not partial.is_symlink()
        assert partial.stat().st_size == 0  # made anew
        partial.write_text("whole")

    for _ in range(2):
        write_whole(tmp_path / "file.json", write)
    assert seen[0] != seen[1]
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("no room")

    write_whole(tmp_path / "file", "before")
    with pytest.raises(OSError, match="no room"):
        write_whole(tmp_path / "file", fail)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_file_that_fits_its_schema_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps({"number": 3, "names": ["a"]}))
    assert read_json(tmp_path / "file.json", Schema, "write it again").number == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "recursion"),
        (b'{"number": 1.5, "names": []}', "number: "),
        (b'{"number": 1, "names": [3]}', r"names\.0: "),
        (b'{"number": ' + b"9" * 6000 + b', "names": []}', "out of range"),
        (b'{"number": "' + b"x" * 1_000_000 + b'", "names": []}', "number: "),
        (b"null", "is damaged"),
    ],
)
def test_every_damage_is_one_short_error_with_its_place_and_what_to_do(
    tmp_path: Path, text: bytes, says: str
) -> None:
    (tmp_path / "file.json").write_bytes(text)
    with pytest.raises(DataError, match=f"file.json .*{says}.*; write it again$") as caught:
        read_json(tmp_path / "file.json", Schema, "write it again")
    assert len(str(caught.value)) < 600


def test_a_file_that_is_not_there_is_an_error_too(tmp_path: Path) -> None:
    for name in ("nothing.json", "x" * 300, "."):
        with pytest.raises(DataError, match="cannot be read"):
            read_json(tmp_path / name, Schema, "write it again")


@given(st.binary(max_size=60), st.integers(0, 900))
def test_bytes_that_are_changed_give_tensors_or_a_clean_error(
    tmp_path_factory: pytest.TempPathFactory, put: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("torch") / "file.pt"
    torch.save({"number": 3, "names": ["a"]}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + put + whole[at + len(put) :])
    with suppress(DataError):
        assert isinstance(read_torch(path, Schema, "cpu", "write it again"), Schema)


def test_a_file_is_flushed_to_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    renamed = Path.replace

    def replace(self: Path, target: Path) -> Path:
        done.append("renamed")
        return renamed(self, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("flushed"))
    monkeypatch.setattr(Path, "replace", replace)
    write_whole(tmp_path / "a", "text")
    write_whole(tmp_path / "b", lambda path: path.write_text("text"))
    assert done == ["flushed", "renamed"] * 2
