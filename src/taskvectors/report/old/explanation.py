"""A finished run of analyses, as it lies on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from taskvectors.errors import DataError
from taskvectors.report.old.figure_files import figure_of
from taskvectors.results.figures import AnyFigure


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """One analysis of a run."""

    name: str
    title: str
    question: str
    source: str
    summary: str
    """Its main numbers in a line."""
    error: str | None
    """Why it refused the vector, where it did."""
    rows: pd.DataFrame
    """Its numbers; empty where it refused."""
    figure: AnyFigure | None


@dataclass(frozen=True, kw_only=True)
class ExplanationRun:
    """Everything the report of a vector is made from."""

    folder: Path
    config: Mapping[str, Any]
    """What was explained, as in `config.json`."""
    analyses: tuple[Analysed, ...]


def is_explanation(folder: Path) -> bool:
    """Whether a folder holds a run of analyses."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # the reader of comparisons says what is wrong with it
        return False
    return isinstance(config, dict) and (
        config.get("command") == "explain" or "vectors" in config.get("asked", {})
    )


def read_explanation(folder: Path) -> ExplanationRun:
    """A run of analyses, read whole.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    config = _read(folder / "config.json")
    if "analyses" not in config:
        raise DataError(
            f"{folder} holds a run that did not finish; start its command again, it goes on where "
            "it stopped"
        )
    described = _read(folder / "figures.json")
    # a chart and a file are named after the analysis
    figures = {
        name: replace(figure_of(folder, kept), name=name) for name, kept in described.items()
    }
    table = folder / "results.parquet"
    rows = pd.read_parquet(table) if table.is_file() else pd.DataFrame({"analysis": []})
    analyses = []
    for about in config["analyses"]:
        own = rows[rows["analysis"] == about["name"]].drop(columns="analysis")
        analyses.append(
            Analysed(
                name=about["name"],
                title=about["title"],
                question=about["question"],
                source=about["source"],
                summary=about.get("summary", ""),  # absent in runs of earlier versions
                error=about["error"],
                rows=own.dropna(axis="columns", how="all").reset_index(drop=True),
                figure=figures.get(about["name"]),
            )
        )
    return ExplanationRun(folder=folder, config=config, analyses=tuple(analyses))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); run the command again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, expected an object")
    return found
