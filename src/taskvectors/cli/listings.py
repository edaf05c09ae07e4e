"""`taskvectors runs` and `taskvectors vectors`: what there is, newest first."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from taskvectors.cli.arguments import Output, default
from taskvectors.cli.folders import user_folder
from taskvectors.cli.results import Result, Table
from taskvectors.errors import DataError
from taskvectors.files import folders_with

_WHERE = default("those among the user's data")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List runs: what was run on what, when, and whether it is finished."""

    folder: Annotated[Positional[str], _WHERE] = ""
    """Folder whose runs are listed, those of `reproduce all` included."""
    output: Output

    def run(self) -> Result:
        """List them."""
        rows = list(_runs(_place(self.folder, "runs")))
        shown = [
            (row["folder"], row["kind"], row["task"], row["model"], row["state"], row["changed"])
            for row in rows
        ]
        return _listed(rows, ("run", "kind", "task", "model", "state", "changed"), shown, "run")


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """List saved vectors: method, task, model, where they act, and what they reached."""

    folder: Annotated[Positional[str], _WHERE] = ""
    """Folder whose vectors are listed, those of runs included."""
    output: Output

    def run(self) -> Result:
        """List them."""
        rows = list(_vectors(_place(self.folder, "vectors")))
        shown = [
            (
                row["folder"],
                row["method"],
                row["task"],
                row["model"],
                " ".join(map(str, row["layers"])),
                " ".join(map(str, row["positions"])),
                "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %",
                row["changed"],
            )
            for row in rows
        ]
        headings = ("vector", "method", "task", "model", "layers", "positions", "validation",
                    "changed")  # fmt: skip
        return _listed(rows, headings, shown, "vector")


def _place(folder: str, kind: Literal["runs", "vectors"]) -> Path:
    """The folder to look into.

    Raises:
        DataError: It is not there.
    """
    place = Path(folder).expanduser() if folder else user_folder(kind)
    if folder and not place.is_dir():
        raise DataError(f"there is no folder {place}; name one that holds {kind}")
    return place


def _runs(place: Path) -> Iterator[dict[str, Any]]:
    from taskvectors.results.reading import read_object

    for folder in folders_with(place, "config.json", depth=2):
        try:
            about = read_object(folder / "config.json")
        except DataError:
            about = {"kind": "damaged"}
        if "kind" in about:  # the config of a vector or of a model says none
            state = "finished" if about.get("finished") else "not finished"
            yield {
                "folder": str(folder),
                **{name: str(about.get(name, "")) for name in ("kind", "task", "model")},
                "state": state,
                "changed": _changed(folder / "config.json"),
            }


def _vectors(place: Path) -> Iterator[dict[str, Any]]:
    from taskvectors.vectors import TaskVector

    for folder in folders_with(place, "vector.safetensors", depth=2):
        row = {"folder": str(folder), "changed": _changed(folder / "vector.safetensors")}
        try:
            vector = TaskVector.load(folder)
        except DataError:
            about: dict[str, Any] = dict.fromkeys(("task", "model"), "")
            yield row | about | {"method": "damaged", "layers": [], "positions": [],
                                 "accuracy": None}  # fmt: skip
            continue
        origin = vector.origin
        yield row | {
            "method": origin.method,
            "task": origin.task,
            "model": origin.model,
            "layers": list(vector.layers),
            "positions": list(vector.positions),
            "accuracy": origin.scores.get("validation_accuracy"),
        }


def _changed(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))


def _listed(
    rows: list[dict[str, Any]], headings: tuple[str, ...], shown: list[Any], noun: str
) -> Result:
    if not rows:
        return Result(data={"rows": []}, shown=[f"There is no {noun} yet."])
    return Result(data={"rows": rows}, shown=[Table(headings=headings, rows=shown)])
