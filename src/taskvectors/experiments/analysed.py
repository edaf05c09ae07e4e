"""Tables of analyses as measurements: which columns are numbers, and which tell rows apart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskvectors.experiments.measurements import Measurement, in_words
from taskvectors.explain import Result

Ends = tuple[str, str] | None
_CI: Ends = ("ci_low", "ci_high")


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
    """Keys whose column here is called otherwise, since the common columns have their name."""


_MEASURED = Columns(keys=("layer", "around", "at", "text"), measures={"value": ("low", "high")})
COLUMNS: dict[str, Columns] = {
    "ov-reconstruction": Columns(
        keys=("variant", "layer", "strength", "vector_layer"),
        measures={
            "accuracy": _CI,
            "recovered": ("recovered_low", "recovered_high"),
            "difference_to_vector": ("difference_to_vector_low", "difference_to_vector_high"),
            "random_accuracy": ("random_low", "random_high"),
            "difference_to_random": ("difference_to_random_low", "difference_to_random_high"),
        },
        constants=("n_validation", "n_random"),
    ),
    "path-expansion": Columns(
        keys=("source", "hops", "vector_layer"), measures={"effect": _CI, "share": None},
        constants=("whole", "residual"),
    ),
    "frozen-paths": Columns(
        keys=("frozen", "vector_layer"),
        measures={
            "accuracy": _CI,
            "difference": ("difference_low", "difference_high"),
            "first_token_accuracy": None,
        },
        constants=("plain_accuracy",),
    ),
    "key-heads": Columns(
        keys=("layer", "head", "rank", "is_key", "vector_layer"),
        measures={"score": None, "removed": None},
    ),
    "head-ablation": Columns(
        keys=("condition", "positions", "mode", "heads", "curve_share", "vector_layer"),
        measures={"accuracy": _CI, "n_heads": None},
        constants=("plain_accuracy",),
        names={"positions": "ablated_at"},
    ),
    "head-overlap": Columns(
        keys=("reference", "n_key", "n_reference"),
        measures={"shared": None, "share": None, "chance": None, "p_value": None,
                  "smallest_p_value": None},
        constants=("n_heads",),
    ),
    "attention": Columns(
        keys=("condition", "heads", "falls_on", "vector_layer"), measures={"mass": _CI},
        constants=("n_key",),
    ),
    "lens": _MEASURED,
    "propagation": _MEASURED,
    "rotation": _MEASURED,
    "geometry": Columns(
        keys=("layer", "task", "n_vectors", "nearest"),
        measures={"intra": None, "inter": None, "separation": None, "nearest_cosine": None,
                  "p_value": None, "smallest_p_value": None, "null_high": None},
        names={"task": "one_task"},
    ),
    "transfer": Columns(
        keys=("vector", "cell"),
        measures={"accuracy": _CI, "first_token_accuracy": None, "label_accuracy": None,
                  "in_label_set": None},
    ),
    "composition": Columns(
        keys=("vector", "strength"),
        names={"strength": "factor"},  # it tells rows apart, and was not chosen
        measures={"french_feminine": _CI, "french_masculine": None, "english_feminine": None,
                  "english_masculine": None, "other": None},
    ),
    "bijections": Columns(
        keys=("vector", "direction", "configuration"),
        names={"configuration": "where"},
        measures={
            "accuracy": _CI,
            "difference": ("difference_low", "difference_high"),
            "first_token_accuracy": None,
            "wrong_direction": None,
            "copied": None,
        },
    ),
}  # fmt: skip
"""By analysis; what is not named here, and is no end of an interval, is in none of its tables."""


def measurements_of(
    analysis: str, rows: Iterable[Mapping[str, Any]], **shared: Any
) -> list[Measurement]:
    """The measurements of an analysis' table.

    Args:
        analysis: Its name.
        rows: The table; absent values are None.
        shared: Fields of every measurement, such as `method` and `layers`.
    """
    columns = COLUMNS[analysis]
    found: list[Measurement] = []
    constants: dict[str, float] = {}
    for row in rows:
        about = {columns.names.get(key, key): row.get(key) for key in columns.keys}
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
