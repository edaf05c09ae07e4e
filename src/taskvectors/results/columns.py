"""The table of an analysis as tidy rows, and back: which columns are numbers, which are keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from taskvectors.results.record import Measurement, in_words, rows_of

Ends = tuple[str, str] | None
ANY = "value"
"""A measure of this name is called as the column `measure` of its row says."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of an analysis' table are."""

    keys: tuple[str, ...]
    """They tell rows apart."""
    measures: Mapping[str, Ends]
    """Numbers, with the columns of their interval."""
    constants: Sequence[str] = ()
    """Numbers that are the same in every row: kept once."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Keys whose column in the record is called otherwise, since a common column has their name."""

    def measurements(
        self, analysis: str, rows: Iterable[Mapping[str, Any]], **shared: Any
    ) -> list[Measurement]:
        """The measurements of an analysis' table.

        Args:
            analysis: Its name, which is in the column `analysis`.
            rows: The table; absent values are None.
            shared: Fields of every measurement, such as `method` and `layers`.
        """
        found: list[Measurement] = []
        constants: dict[str, float] = {}
        for row in rows:
            about = {self.names.get(key, key): row.get(key) for key in self.keys}
            about = {"analysis": analysis} | about
            own = dict(shared)
            if list(shared.get("layers", ())) == [about.get("layer")]:  # has a column already
                own["configuration"] = in_words({k: v for k, v in about.items() if k != "layer"})
            if row.get("task") is not None and "task" not in self.keys:
                own["task"] = row["task"]
            for name in ("shots", "n"):  # whole numbers become floats in a column with gaps
                if row.get(name) is not None and name not in self.keys:
                    own[name] = int(row[name])
            for measure, ends in self.measures.items():
                if row.get(measure) is None:
                    continue
                low, high = (row.get(end) for end in ends) if ends else (None, None)
                name = str(row["measure"]) if measure == ANY else measure
                found.append(
                    Measurement(
                        measure=name, value=float(row[measure]), low=low, high=high, about=about,
                        **own,
                    )
                )  # fmt: skip
            constants |= {n: row[n] for n in self.constants if row.get(n) is not None}
        found += [
            Measurement(measure=name, value=float(value), about={"analysis": analysis}, **shared)
            for name, value in constants.items()
        ]
        return found

    def table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The analysis' table again, from its tidy rows: one line per thing, a column per number.

        Args:
            rows: Rows of one analysis, as `measurements` gave them.
        """
        lines: dict[tuple[Any, ...], dict[str, Any]] = {}
        constants: dict[str, float] = {}
        counts: dict[tuple[Any, ...], int] = {}
        for row in rows_of(rows):
            if row["measure"] == "error":
                continue
            if row["measure"] in self.constants:
                constants[row["measure"]] = row["value"]
                continue
            line = {key: row.get(self.names.get(key, key)) for key in self.keys}
            line |= {n: row[n] for n in ("task", "shots", "n") if n not in self.keys}
            measure = ANY if ANY in self.measures else row["measure"]
            if measure == ANY:
                line["measure"] = row["measure"]
            key = tuple(line.values())
            # lines that nothing tells apart are told apart by their order
            number = counts[*key, measure] = counts.get((*key, measure), -1) + 1
            line = lines.setdefault((*key, number), line)
            line[measure] = row["value"]
            ends = self.measures.get(measure)
            if ends is not None:
                line |= dict(zip(ends, (row["low"], row["high"]), strict=True))
        return pd.DataFrame([line | constants for line in lines.values()])


def analysis_tables(
    frame: pd.DataFrame, analyses: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """The tables of a run's analyses, by name; one that refused has no rows.

    Args:
        frame: The run's tidy rows.
        analyses: `metadata["analyses"]` of the run: each with its `name` and `columns`.
    """
    adapter = TypeAdapter(Columns)
    return {
        one["name"]: adapter.validate_python(one["columns"]).table(
            frame[frame["analysis"].eq(one["name"])]
        )
        if "analysis" in frame
        else pd.DataFrame()
        for one in analyses
    }
