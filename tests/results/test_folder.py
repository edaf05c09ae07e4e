"""A run's folder: each file whole or not at all, one process at a time, nothing mixed.

Run with `pytest tests/results/test_folder.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.results import Cell, Measurement, Record, RunFolder, frame_of, open_run, read_run
from taskvectors.results.figures import Figure, Series

FIGURE = Figure(
    name="lens",
    title="t",
    x_label="x",
    y_label="y",
    series=(Series(label="a", x=(0.0,), y=(1.0,)),),
)
ASKED = {"shots": 8, "task": "capital", "layers": (1, 2)}


def row(value: float = 0.5, **about: Any) -> dict[str, Any]:
    found = Measurement(measure="accuracy", value=value, low=0.25, high=0.75, n=8, about=about)
    return found.as_row(experiment="compare", model="m", task="capital", seed=0)


def record(**changes: Any) -> Record:
    metadata = {
        "model": "m", "task": "capital", "command": ["x"], "versions": {}, "template": "arrow",
        "shots": 8, "seed": 0, "n_test": 8, "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    given: dict[str, Any] = {
        "kind": "compare",
        "metadata": metadata,
        "frame": frame_of([row(strength=1.0, layer=3), row(strength=None, layer=None)]),
        "figures": (FIGURE,),
        "curves": pd.DataFrame([{"step": 1, "loss": 2.0}]),
        "warnings": ("Brasília, Ελλάδα",),
    }
    return Record(**given | changes)


WRITES: dict[str, tuple[str, Callable[[RunFolder, float], object]]] = {
    "config": ("config.json", lambda run, mark: run.check_made_from({f"x{mark}": "1"})),
    "lines": ("metrics.jsonl", lambda run, mark: run.write(
        record(curves=pd.DataFrame([{"loss": mark}])))),
    "results": ("results.parquet", lambda run, mark: run.write(
        record(frame=frame_of([row(mark)])))),
    "cell": ("cells/a.json", lambda run, mark: run.keep("a", Cell(rows=[row(mark)]))),
}  # fmt: skip


def opened(path: Path, **changes: Any) -> Any:
    return open_run(path, kind="compare", asked=ASKED | changes)


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("breaks", ["fsync", "replace"])
def test_a_file_is_replaced_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, breaks: str
) -> None:
    """As on a full disk, before the file is flushed and before it is renamed."""
    name, write = WRITES[kind]

    def fails(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path / "run") as run:
        write(run, 0.25)
        before = (run.path / name).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(*((os, "fsync") if breaks == "fsync" else (Path, "replace")), fails)
            with pytest.raises(DataError, match="No space left on device"):
                write(run, 0.5)
        assert (run.path / name).read_bytes() == before
        assert not list(run.path.rglob("*.partial"))
        write(run, 0.5)
        assert (run.path / name).read_bytes() != before


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    ours = record()
    ours.save(tmp_path / "run")
    theirs = read_run(tmp_path / "run")
    pd.testing.assert_frame_equal(theirs.frame, ours.frame)
    pd.testing.assert_frame_equal(theirs.curves, ours.curves)
    assert theirs.figures == ours.figures
    assert theirs.warnings == ours.warnings
    assert theirs.is_finished
    assert theirs.folder == tmp_path / "run"
    assert dict(ours.metadata).items() <= dict(theirs.metadata).items()


def test_a_run_that_did_not_finish_says_so(tmp_path: Path) -> None:
    ours = record()
    record(metadata={**ours.metadata, "finished": None}).save(tmp_path / "run")
    theirs = read_run(tmp_path / "run")
    assert not theirs.is_finished
    assert "did not come to its end" in theirs.warnings[0]


def test_a_cell_is_found_again_and_a_damaged_one_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell = Cell(
        rows=[row(layer=3, none=None)], figures=[FIGURE], curves=[{"step": 1}], warnings=["w"],
        metadata={"seconds": 1.5}, files=["adapters/a"],
    )  # fmt: skip
    with opened(tmp_path / "run") as run:
        (run.path / "adapters" / "a").mkdir(parents=True)
        assert run.cell("a") is None
        run.keep("a", cell)
        found = run.cell("a")
        assert found is not None
        # a table does not tell whether its cells were made now or found again
        assert frame_of(found.rows).equals(frame_of(cell.rows))
        assert "none" not in frame_of(cell.rows)
        assert (found.figures, found.curves, found.warnings) == ([FIGURE], [{"step": 1}], ["w"])
        assert found.metadata == {"seconds": 1.5}
        text = (run.path / "cells" / "a.json").read_text()
        for damaged in (text[: len(text) // 2], "{}", "[" * 100_000, text.replace("Figure", "F")):
            caplog.clear()
            (run.path / "cells" / "a.json").write_text(damaged)
            assert run.cell("a") is None
            assert "made again" in caplog.text
        (run.path / "cells" / "a.json").write_text(text)
        shutil.rmtree(run.path / "adapters" / "a")  # as when it was killed before it
        assert run.cell("a") is None


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with opened(path):
        pass
    for left in (
        ".config.json.x1.partial",
        "cells/.a.json.x2.partial",
        "seed-0/a/.b.pt.x3.partial",
        "cells/.a.12345678/v",
    ):
        (path / left).parent.mkdir(exist_ok=True, parents=True)
        (path / left).touch()
    (path / ".hidden-of-the-user").touch()
    with opened(path):
        left_over = {one.name for one in path.rglob("*") if not one.is_dir()}
    assert left_over == {".hidden-of-the-user", ".lock", "config.json"}


def test_a_run_that_was_killed_while_it_began_can_be_started(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / ".lock").touch()
    (path / ".config.json.x.partial").write_text('{"ask')
    with opened(path) as run:
        assert run.cell("a") is None


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"shots": 4}, "shots"), ({"seed": 1}, "seed"), ({"layers": (1,)}, "layers")],
)
def test_other_settings_are_an_error_that_names_them(
    tmp_path: Path, asked: dict[str, Any], named: str
) -> None:
    with opened(tmp_path / "run"):
        pass
    with opened(tmp_path / "run"):  # the same ones go on
        pass
    with (
        pytest.raises(DataError, match=rf"a run with other settings \({named}\)"),
        opened(tmp_path / "run", **asked),
    ):
        pass


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "run"):
        pass
    with (
        pytest.raises(DataError, match="holds a run of compare"),
        open_run(tmp_path / "run", kind="train", asked=ASKED),
    ):
        pass


def test_other_inputs_are_refused_and_named(tmp_path: Path) -> None:
    inputs = {"the pairs of f.csv, seed 0": "a" * 64, "torch": "2.11"}
    with opened(tmp_path / "run") as run:
        run.check_made_from(inputs)
    with opened(tmp_path / "run") as run:
        run.check_made_from(inputs | {"the pairs of f.csv, seed 1": "c" * 64})
        with pytest.raises(DataError, match=r"pairs of f.csv, seed 0 \(was aaaaaaaaaaaa, is bbb"):
            run.check_made_from(inputs | {"the pairs of f.csv, seed 0": "b" * 64})
        with pytest.raises(DataError, match=r"torch \(was 2.11, is 2.12\)"):
            run.check_made_from(inputs | {"torch": "2.12"})


def test_a_second_process_is_told(tmp_path: Path) -> None:
    code = (
        "import sys; from taskvectors.results import open_run\n"
        "with open_run(sys.argv[1], kind='compare', asked={}): print('inside')"
    )
    with open_run(tmp_path / "run", kind="compare", asked={}):
        second = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert "another process works in" in second.stderr
    assert "inside" not in second.stdout
    with open_run(tmp_path / "run", kind="compare", asked={}):  # free again
        pass


class Place(NamedTuple):
    """Where no run can be kept."""

    path: str
    says: str


PLACES = {
    "a file": Place("taken", "cannot be written"),
    "below a file": Place("taken/run", "cannot be written"),
    "a long name": Place("x" * 300, "File name too long"),
    "no run": Place("notes", "is not empty and holds no run"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    place = PLACES[name]
    with pytest.raises(DataError, match=place.says) as caught, opened(tmp_path / place.path):
        pass
    assert "name another folder" in str(caught.value)


@pytest.mark.parametrize("reason", ["full", "right"])
def test_no_room_and_no_right_are_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "full":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:  # root may write everywhere, so the right is taken from the call

        def refused(*given: Any, **about: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refused)
    expected = "no room is left" if reason == "full" else "Permission denied"
    with pytest.raises(DataError, match=expected), opened(tmp_path / "run"):
        pass


def test_a_run_that_could_not_be_kept_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "pyarrow" else present(name, *rest),
    )
    with (
        pytest.raises(TaskVectorsError, match=r"needs pyarrow, .* pip install 'taskvectors\[demo"),
        opened(tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


CONFIGS: dict[str, tuple[str, str]] = {
    "empty": ("{}", "is damaged"),
    "cut": ('{"format": 2, "ki', "is damaged"),
    "list": ("[]", "is damaged.*should be an object"),
    "deep": ('{"a":' * 100_000, "is damaged.*recursion"),
    "huge number": ('{"format": ' + "9" * 6000 + "}", "is damaged"),
    "old": (json.dumps({"asked": ASKED}), "of an earlier version"),
    "kind": (json.dumps({"format": 2, "kind": "x" * 10_000, "asked": {}}), "is damaged"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_config_is_said_by_reader_and_run(tmp_path: Path, name: str) -> None:
    text, says = CONFIGS[name]
    record().save(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(text)
    for use in (lambda: read_run(tmp_path / "run"), lambda: opened(tmp_path / "run").__enter__()):
        with pytest.raises(DataError, match=says) as caught:
            use()
        assert len(str(caught.value)) < 600


def _frame(**changes: Any) -> pd.DataFrame:
    frame = record().frame
    for name, value in changes.items():
        frame.loc[1, name] = value
    return frame


RESULTS: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "share": (lambda: _frame(value=7.0), r"row 1: accuracy 7 .* is no share"),
    "outside its interval": (lambda: _frame(value=0.9), "lies outside its interval"),
    "interval": (lambda: _frame(low=0.8, high=0.7, value=None), "ends before it begins"),
    "count": (lambda: _frame(n=-3), "negative number"),
    "column": (lambda: record().frame.drop(columns="measure"), "lacks the columns measure"),
    "text": (lambda: record().frame.astype({"value": str}), "does not hold numbers"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_impossible_results_are_refused_with_their_row(tmp_path: Path, name: str) -> None:
    make, says = RESULTS[name]
    record().save(tmp_path / "run")
    make().to_parquet(tmp_path / "run" / "results.parquet")
    with pytest.raises(DataError, match=says):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["../victim", "/victim", ".hidden", "a\nb", ""])
def test_a_name_in_a_figure_is_never_a_path(tmp_path: Path, name: str) -> None:
    record().save(tmp_path / "run")
    path = tmp_path / "run" / "figures.json"
    held = json.loads(path.read_text())
    held[0]["name"] = name
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match="damaged"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("file", ["metrics.jsonl", "figures.json", "examples.jsonl"])
def test_other_damaged_files_are_named(tmp_path: Path, file: str) -> None:
    record().save(tmp_path / "run")
    for text in ("{", "3", '{"a": 1', "[1]"):
        (tmp_path / "run" / file).write_text(text)
        with pytest.raises(DataError, match=file):
            read_run(tmp_path / "run")
