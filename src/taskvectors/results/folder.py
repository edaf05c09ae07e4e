"""A run's folder: written file by file, each whole or not at all, by one process at a time.

A run that was cut off has the cells it finished: the same command finds them and goes on. It goes
on only where everything that the cells are made from is as it was. A cell is one piece of work that
is kept or lost as a whole, such as a method on a seed; what it points to is written before it.
"""

import datetime
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import BaseModel

from taskvectors.errors import DataError, require_package
from taskvectors.files import PARTIAL, write_whole
from taskvectors.results.figures import AnyFigure
from taskvectors.results.reading import (
    FORMAT,
    checked,
    figure_of,
    read_asked,
    read_object,
)
from taskvectors.results.record import Kind, Record

logger = logging.getLogger(__name__)

BEST_VECTOR = "best-vector"
"""The folder of the vector that a run found to be the best."""
_LOCK = ".lock"
_LEAST_FREE = 1 << 20
"""Bytes that have to be free for a run to begin."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A finished piece of a run."""

    rows: Sequence[Mapping[str, Any]] = ()
    """Tidy rows."""
    figures: Sequence[AnyFigure] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    """What was logged in training."""
    warnings: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else is kept of it, such as the seconds that it took."""
    files: Sequence[str] = ()
    """Files and folders of the run that it points to."""


class _Kept(BaseModel):
    """A cell's file."""

    rows: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    warnings: list[str]
    metadata: dict[str, Any]
    files: list[str]


class RunFolder:
    """The folder of a run that is in hand. Made by `open_run`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config: dict[str, Any] = {}

    def check_made_from(self, inputs: Mapping[str, str]) -> None:
        """Keep what the run is made from, or refuse to mix.

        Args:
            inputs: A hash or a version of each input, by its name in words.

        Raises:
            DataError: Cells of the run were made from something else; the message names it.
        """
        before: dict[str, str] = self._config["made_from"]
        changed = [name for name in inputs if before.get(name, inputs[name]) != inputs[name]]
        if changed:
            what = "; ".join(f"{n} (was {before[n][:12]}, is {inputs[n][:12]})" for n in changed)
            raise DataError(
                f"{self.path} holds a run that was made from other inputs. Changed: {what}. Name "
                "another folder, or restore what the run was made from"
            )
        self._config["made_from"] = before | dict(inputs)
        self._write_config()

    def begin(self) -> None:
        """Say where the run is, once all that it is made from was found to be there."""
        logger.info(
            "The run is in %s; with --out and that folder it goes on if it is cut off",
            self.path.absolute(),
        )

    def cell(self, key: str) -> Cell | None:
        """A finished cell; None if it is not finished, or damaged."""
        path = self._cell_path(key)
        if not path.is_file():
            return None
        try:
            kept = checked(path, _Kept, read_object(path))
            figures = [figure_of(path, one) for one in kept.figures]
            for name in kept.files:
                is_inside = (self.path / name).resolve().is_relative_to(self.path.resolve())
                if not (is_inside and (self.path / name).exists()):
                    raise DataError(f"{path} points to {name}, which is not there")
        except DataError as error:
            logger.warning("%s; that part of the run is made again", str(error).split(";")[0])
            return None
        return Cell(
            rows=kept.rows, figures=figures, curves=kept.curves, warnings=kept.warnings,
            metadata=kept.metadata, files=kept.files,
        )  # fmt: skip

    def keep(self, key: str, cell: Cell) -> None:
        """Write a cell; what it points to has been written before."""
        rows = [{name: v for name, v in row.items() if v is not None} for row in cell.rows]
        kept = {
            "rows": rows,
            "figures": [described(figure) for figure in cell.figures],
            "curves": list(cell.curves),
            "warnings": list(cell.warnings),
            "metadata": dict(cell.metadata),
            "files": list(cell.files),
        }
        self._write(self._cell_path(key), _json(kept))

    def write(self, record: Record) -> Record:
        """Write all files of a record but its cells; `config.json` last.

        Args:
            record: What the run holds so far; `metadata["finished"]` says whether that is all.

        Returns:
            The same record, in this folder.
        """
        self.write_table(record.frame, "results.parquet")
        self._write_lines("metrics.jsonl", record.curves.to_dict("records"))  # type: ignore[arg-type]
        self._write_lines("examples.jsonl", [asdict(item) for item in record.examples])
        if record.figures:
            figures = [described(figure) for figure in record.figures]
            self._write(self.path / "figures.json", _json(figures))
        own = {name: self._config[name] for name in ("format", "kind", "asked", "made_from")}
        self._config = {
            **own,
            **{name: value for name, value in record.metadata.items() if name not in own},
            "finished": record.metadata.get("finished"),
            "warnings": list(record.warnings),
            "published": [asdict(value) for value in record.published],
        }
        self._write_config()
        metadata = {n: v for n, v in self._config.items() if n not in ("warnings", "published")}
        return Record(**{**record.__dict__, "metadata": metadata, "folder": self.path})

    def write_table(self, frame: pd.DataFrame, name: str) -> None:
        """A Parquet file."""
        self._write(self.path / name, lambda path: frame.to_parquet(path, index=False))

    def _write_lines(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """A file of one JSON object per line; none where there is nothing to say."""
        if lines:
            text = "".join(json.dumps(plain(line), ensure_ascii=False) + "\n" for line in lines)
            self._write(self.path / name, text)

    def _write_config(self) -> None:
        self._write(self.path / "config.json", _json(self._config))

    def _write(self, path: Path, content: str | Callable[[Path], object]) -> None:
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _cell_path(self, key: str) -> Path:
        if not key or key.startswith(".") or "/" in key or "\\" in key:
            raise ValueError(f"{key!r} is no name of a cell")
        return self.path / "cells" / f"{key}.json"


@contextmanager
def open_run(folder: str | Path, *, kind: Kind, asked: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Start a run, or go on with it; nobody else works in its folder until the end.

    Args:
        folder: A new folder, an empty one, or that of the same run.
        kind: Which verb makes it.
        asked: What is asked for: it has to be the same for a run to go on.

    Raises:
        DataError: The folder holds something else or a run that was asked for differently, another
            process works in it, or it cannot be written.
        TaskVectorsError: pyarrow, which writes the results, is not installed.
    """
    require_package("pyarrow", "demo", "keeping the results of a run")
    path = Path(folder).expanduser()
    config = path / "config.json"
    wanted = json.loads(_json(asked))  # as a file has it: tuples are lists
    try:
        is_new = not path.exists()
        if config.is_file():
            _same_run(config, kind, wanted)  # a folder of something else is left alone
        path.mkdir(parents=True, exist_ok=True)
        if not config.is_file() and any(not _is_ours(one) for one in path.iterdir()):
            raise DataError(f"{path} is not empty and holds no run; name another folder")
        if shutil.disk_usage(path).free < _LEAST_FREE:
            raise DataError(f"no room is left where {path} is; name a folder on another disk")
        lock = FileLock(path / _LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"another process works in {path}; wait until it has ended, or name another folder"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        run = RunFolder(path)
        _remove_leftovers(path)
        if config.is_file():
            run._config = _same_run(config, kind, wanted)
        else:
            run._config = {"format": FORMAT, "kind": kind, "asked": wanted, "made_from": {}}
            run._write_config()
        yield run
    except BaseException:
        if is_new and {one.name for one in path.iterdir()} <= {"config.json", _LOCK}:
            config.unlink(missing_ok=True)  # nothing was done yet: no folder is left behind
        raise
    finally:
        lock.release()
        if is_new and not config.exists():
            (path / _LOCK).unlink(missing_ok=True)
            path.rmdir()


@contextmanager
def kept_in(
    folder: Path | None, *, kind: Kind, asked: Mapping[str, Any]
) -> Iterator[Callable[[Record], Record]]:
    """What keeps a record: in a folder, which is held from the start, or in memory alone.

    Args:
        folder: As `open_run` takes it; None to write nothing.
        kind: Which verb makes it.
        asked: What is asked for.
    """
    if folder is None:
        yield lambda record: record
        return
    with open_run(folder, kind=kind, asked=asked) as run:
        yield run.write


def save_record(record: Record, folder: Path) -> Record:
    """Write a record that is held in memory as a run folder of its own.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    asked = record.metadata.get("asked", {})
    with open_run(folder, kind=record.kind, asked=asked) as run:
        run.check_made_from(record.metadata.get("made_from", {}))
        return run.write(record)


def cannot_write(path: Path, error: OSError) -> DataError:
    """What a full disk, a missing right or a bad name looks like to a user."""
    return DataError(f"{path} cannot be written ({error.strerror or error}); name another folder")


def now() -> str:
    """The time, as `finished` has it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def described(figure: AnyFigure) -> dict[str, Any]:
    """A figure as `figures.json` has it."""
    return {"kind": type(figure).__name__, **asdict(figure)}


def plain(value: Any) -> Any:
    """A value as JSON knows it: numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return str(value) if isinstance(value, Path) else value


def _json(value: Any) -> str:
    return json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _is_ours(path: Path) -> bool:
    """Whether it is what a run that was killed while it began has left."""
    return path.name == _LOCK or path.name.endswith(PARTIAL) or path.name == "cells"


def _remove_leftovers(path: Path) -> None:
    """Remove what a kill left half written."""
    hidden = list(path.rglob(f".*{PARTIAL}"))  # learners have folders of their own
    for folder in (path / "cells", path / "adapters"):
        hidden += folder.glob(".*")
    for one in hidden:
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)


def _same_run(config: Path, kind: Kind, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's `config.json` holds, if it is of the run that is asked for."""
    held = read_object(config)
    before = read_asked(config, held)
    if before.kind != kind:
        raise DataError(f"{config.parent} holds a run of {before.kind}; name another folder")
    changed = sorted(
        name for name in {*before.asked, *asked} if before.asked.get(name) != asked.get(name)
    )
    if changed:
        raise DataError(
            f"{config.parent} holds a run with other settings ({', '.join(changed)}); name another "
            "folder, or give the same settings to go on with it"
        )
    return {"made_from": {}} | held
