"""Tables of analyses as measurements, by what each analysis says of its columns."""

from collections.abc import Iterable, Mapping
from typing import Any

from taskvectors.experiments.measurements import Measurement, in_words
from taskvectors.explain import ANALYSES, Result
from taskvectors.explain.shared.analysis import VECTOR_LAYER


def measurements_of(
    analysis: str, rows: Iterable[Mapping[str, Any]], **shared: Any
) -> list[Measurement]:
    """The measurements of an analysis' table.

    Args:
        analysis: Its name.
        rows: The table; absent values are None.
        shared: Fields of every measurement, such as `method` and `layers`.
    """
    columns = ANALYSES[analysis].columns
    found: list[Measurement] = []
    constants: dict[str, float] = {}
    for row in rows:
        about = {columns.names.get(key, key): row.get(key) for key in (*columns.keys, VECTOR_LAYER)}
        about = {"analysis": analysis} | about
        own = dict(shared)
        if list(shared.get("layers", ())) == [about.get("layer")]:  # that has a column already
            own["configuration"] = in_words({k: v for k, v in about.items() if k != "layer"})
        if row.get("task") is not None and "task" not in columns.keys:
            own["task"] = row["task"]
        for name in ("shots", "n"):  # whole numbers become floats in a column with gaps
            if row.get(name) is not None and name not in columns.keys:
                own[name] = int(row[name])
        for measure, ends in columns.measures.items():
            if row.get(measure) is None:
                continue
            low, high = (row.get(end) for end in ends) if ends else (None, None)
            name = str(row["measure"]) if measure == "value" else measure
            found.append(
                Measurement(
                    measure=name, value=float(row[measure]), low=low, high=high, about=about, **own
                )
            )
        constants |= {name: row[name] for name in columns.constants if row.get(name) is not None}
    found += [
        Measurement(measure=name, value=float(value), about={"analysis": analysis}, **shared)
        for name, value in constants.items()
    ]
    return found


def measurements_of_result(analysis: str, result: Result, **shared: Any) -> list[Measurement]:
    """The measurements of what an analysis returned."""
    frame = result.to_frame()
    rows: Any = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return measurements_of(analysis, rows, **shared)
