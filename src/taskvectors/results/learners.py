"""The wide rows of learners: one layer, or one shift, of a variant a row.

They are the documented form of `train --json`. The record holds the same numbers as tidy rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from taskvectors.results.record import Measurement, rows_of

Row = dict[str, Any]
IN_DISTRIBUTION = "none"
"""The shift that shifts nothing."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Wide rows of all variants, and the trends on l* where the battery was run."""

    rows: Sequence[Row]
    """By variant, seed and layer."""
    shifts: Sequence[Row]
    """By variant, seed and shift."""
    trends: Sequence[Row]
    """By shift."""


MEASURES: dict[str, tuple[str, str] | None] = {
    "icl_error": None,
    "zero_shot_error": None,
    "base_error": None,
    "optimal_error": None,
    "tvp_error": None,
    "tvp_error_kept": None,
    "tvp_error_averaged": None,
    "recovery": ("recovery_low", "recovery_high"),
    "recovery_kept": None,
    "recovery_averaged": None,
    "wrong_task_error": None,
    "wrong_task_error_to_injected": None,
    "locality": None,
    "near_optimal": None,
    "steps": None,
    "probe_r2": None,
    "task_share": None,
}


def of_variants(
    learner: str, finding: Finding, names: Iterable[str] = MEASURES, **about: Any
) -> list[Measurement]:
    """Errors and recoveries of every variant, by layer.

    Measures that do not depend on the layer are kept once for each variant.
    """
    found = []
    seen = set()
    wanted = set(names)
    for row in finding.rows:
        for name, ends in MEASURES.items():
            if name not in wanted or row.get(name) is None:
                continue
            by_layer = name not in _OF_THE_VARIANT
            once = (row["variant"], row["seed"], name)
            if not by_layer and once in seen:
                continue
            seen.add(once)
            low, high = (row.get(end) for end in ends) if ends else (None, None)
            found.append(
                measurement_of(
                    learner, row, name, row[name], low=low, high=high,
                    layer=row["layer"] if by_layer else None, **about,
                )
            )  # fmt: skip
        for name in ("tvp", "icl", "zero_shot"):
            for place, value in enumerate(row.get(f"{name}_error_by_position", ())):
                found.append(
                    measurement_of(
                        learner, row, f"{name}_error_by_position", value, layer=row["layer"],
                        place=place, **about,
                    )
                )  # fmt: skip
    return found


_OF_A_TREND = {
    "trend_correlation": "correlation",
    "trend_p_value": "p_value",
    "smallest_trend_p_value": "smallest_p_value",
}
_OF_THE_VARIANT = frozenset(
    {
        "icl_error", "zero_shot_error", "base_error", "optimal_error", "locality", "near_optimal",
        "steps",
    }
)  # fmt: skip


_ALL_LAYERS = "all l*"
"""The method of rows about the trend on l*."""
_OF_A_SHIFT = (
    "icl_error", "icl_standard_error", "zero_shot_error", "base_error", "optimal_error", "steps",
)  # fmt: skip


def of_shifts(learner: str, finding: Finding) -> list[Measurement]:
    """Errors out of distribution of every variant, and their trend on l*."""
    found = []
    for row in finding.shifts:
        spread = 1.96 * row["icl_standard_error"]
        for name in _OF_A_SHIFT:
            if row.get(name) is None:
                continue
            ends = (row[name] - spread, row[name] + spread) if name == "icl_error" else (None, None)
            about = {"shift": row["shift"], "n_demonstrations": row["n_demonstrations"]}
            found.append(
                measurement_of(learner, row, name, row[name], low=ends[0], high=ends[1], **about)
            )
        found += [
            measurement_of(learner, row, name, value, layer=layer, **about)
            for name in ("tvp_error", "recovery")
            for layer, value in enumerate(row.get(name, ()))
            if value is not None
        ]
    for trend in finding.trends:
        shared: dict[str, Any] = {"variant": _ALL_LAYERS, "tvp_layer": None, "n": trend["n_layers"]}
        about = {"shift": trend["shift"]}
        found += [
            measurement_of(learner, shared, measure, trend[name], **about)
            for measure, name in _OF_A_TREND.items()
        ]
    return found


def measurement_of(
    learner: str,
    row: Mapping[str, Any],
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    **about: Any,
) -> Measurement:
    """One number of a variant; what tells it apart is in `about`."""
    layer = about.get("layer")
    return Measurement(
        measure=name,
        value=float(value),
        low=low,
        high=high,
        n=row.get("n"),
        method=str(row["variant"]),
        seed=row.get("seed"),
        layers=() if layer is None else (layer,),
        shots=about.get("n_demonstrations", row.get("n_demonstrations")),
        about={
            "learner": learner,
            "tvp_layer": row.get("tvp_layer"),
            **{key: value for key, value in about.items() if value is not None},
        },
    )


def finding_of(frame: pd.DataFrame) -> Finding:
    """The wide rows again, from tidy ones.

    Args:
        frame: Rows of `of_variants` and `of_shifts`.
    """
    wide: dict[tuple[Any, ...], dict[str, Any]] = {}
    shifts: dict[tuple[Any, ...], dict[str, Any]] = {}
    trends: dict[str, dict[str, Any]] = {}
    for row in rows_of(frame):
        if row["method"] == _ALL_LAYERS:
            trend = trends.setdefault(row["shift"], {"shift": row["shift"], "n_layers": row["n"]})
            trend[_OF_A_TREND[row["measure"]]] = row["value"]
            continue
        key = (row["method"], row["seed"])
        if row.get("shift") is None:
            _put(wide.setdefault(key, _first(row) | {"shift": IN_DISTRIBUTION, "layers": {}}), row)
        else:
            named = _first(row) | {"shift": row["shift"], "layers": {}}
            _put(shifts.setdefault((*key, row["shift"]), named), row)
    n_seeds = len({seed for _, seed, _ in shifts})
    return Finding(
        rows=[one for found in wide.values() for one in _by_layer(found)],
        shifts=[_of_shift(found) for found in shifts.values()],
        trends=[trend | {"n_seeds": n_seeds} for trend in trends.values()],
    )


_EXACT = {"steps": int, "near_optimal": bool}


def _first(row: Mapping[str, Any]) -> dict[str, Any]:
    layer = row.get("tvp_layer")
    return {
        "variant": row["method"],
        "seed": row["seed"],
        "tvp_layer": None if layer is None else int(layer),
        "n_demonstrations": row["shots"],
        "n": row["n"],
    }


def _put(found: dict[str, Any], row: Mapping[str, Any]) -> None:
    """Put a number where it belongs: to the variant, to a layer, or to a place of a curve."""
    name = row["measure"]
    value = _EXACT.get(name, float)(row["value"])
    if row.get("layer") is None:
        found[name] = value
        return
    at = found["layers"].setdefault(int(row["layer"]), {})
    if row.get("place") is not None:
        at.setdefault(name, []).append(value)
        return
    at[name] = value
    ends = MEASURES.get(name)
    if ends:
        at |= dict(zip(ends, (row["low"], row["high"]), strict=True))


def _by_layer(found: dict[str, Any]) -> list[Row]:
    layers = found.pop("layers")
    if not layers:
        return [found | {"layer": None}]
    absent = {name: None for name in MEASURES if name not in _OF_THE_VARIANT}
    absent |= {"recovery_low": None, "recovery_high": None, "locality": None}
    return [absent | found | layers[layer] | {"layer": layer} for layer in sorted(layers)]


def _of_shift(found: dict[str, Any]) -> Row:
    layers = found.pop("layers")
    if layers:
        for name in ("tvp_error", "recovery"):
            found[name] = [layers[layer].get(name) for layer in sorted(layers)]
    return found
