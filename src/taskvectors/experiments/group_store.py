"""The results of an experiment on disk: a file per group, and all of them together.

A group is one Parquet file that is there whole or not at all, so a run that is killed loses at most
the group in hand, and the same command finds the others. Its figures are written before it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.costs import Cost, total
from taskvectors.experiments.experiment import Experiment, Found, Group
from taskvectors.experiments.measurements import over_tasks, to_frame
from taskvectors.experiments.store import RunFolder, write_table
from taskvectors.results.figures import AnyFigure


class GroupStore:
    """A run's folder: `config.json`, `cells/`, `results.parquet`, `published.json` and figures."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)
        self.path = folder

    def open(self, asked: Mapping[str, Any]) -> None:
        """Start the run, or go on with it.

        Raises:
            DataError: The folder holds a run with other settings, or something else.
        """
        self.run.open(asked)

    def has(self, group: Group) -> bool:
        """Whether a group is finished."""
        return self._rows_of(group).exists()

    def keep(self, group: Group, found: Found, *, seconds: float, estimate: Cost | None) -> None:
        """Keep what a group gave, how long it took and what was estimated before."""
        held = {
            "figures": [described(figure) for figure in found.figures],
            "warnings": list(found.warnings),
            "seconds": seconds,
            "estimate": None if estimate is None else asdict(estimate),
        }
        self.run.write_json(f"cells/{group.key}.json", held)
        write_table(
            to_frame([one.as_row(group) for one in found.measurements]), self._rows_of(group)
        )

    def gather(self, experiment: Experiment, groups: Sequence[Group]) -> list[str]:
        """Write the results and figures of all groups that are finished.

        Returns:
            What they warn of.
        """
        done = [group for group in groups if self.has(group)]
        rows: list[Mapping[str, Any]] = []
        figures: list[Mapping[str, Any]] = []
        warnings: list[str] = []
        for group in done:
            rows += _records(pd.read_parquet(self._rows_of(group)))
            about = self._held(group)
            figures += [_named_for(figure, group) for figure in about["figures"]]
            warnings += [f"{group.key}: {warning}" for warning in about["warnings"]]
        frame = to_frame([*rows, *(over_tasks(to_frame(rows)) if rows else [])])
        write_table(frame, self.path / "results.parquet")
        if rows and experiment.figures is not None:
            figures = [*(described(one) for one in experiment.figures(frame)), *figures]
        self.run.write_text("figures.json", json.dumps(figures, indent=1, ensure_ascii=False))
        published = [asdict(value) for value in experiment.published]
        self.run.write_text("published.json", json.dumps(published, indent=1, ensure_ascii=False))
        return warnings

    def cost(self, groups: Sequence[Group]) -> dict[str, Any]:
        """What the finished groups took together, each since it was last begun.

        Returns:
            `seconds`, and `estimate`: what was estimated before, None if of one it was not.
        """
        held = [self._held(group) for group in groups if self.has(group)]
        costs = [Cost(**one["estimate"]) for one in held if one["estimate"] is not None]
        known = len(costs) == len(held)
        return {
            "seconds": sum(one["seconds"] for one in held),
            "estimate": asdict(total(costs)) if known else None,
        }

    def _held(self, group: Group) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(
            (self.path / "cells" / f"{group.key}.json").read_text(encoding="utf-8")
        )
        return held

    def _rows_of(self, group: Group) -> Path:
        return self.path / "cells" / f"{group.key}.parquet"


def described(figure: AnyFigure | Mapping[str, Any]) -> Mapping[str, Any]:
    """A figure as `figures.json` has it."""
    if isinstance(figure, Mapping):
        return figure
    return {"kind": type(figure).__name__, **asdict(figure)}


def _named_for(figure: Mapping[str, Any], group: Group) -> Mapping[str, Any]:
    """A group's figure, told from the same one of another group."""
    return {
        **figure,
        "name": f"{figure['name']}-{group.key}",
        "title": f"{figure['title']}: {group.task}, seed {group.seed}",
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, what is absent as None."""
    found: list[dict[str, Any]] = (
        frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    )
    return found
