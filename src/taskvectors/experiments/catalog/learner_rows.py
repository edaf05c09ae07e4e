"""What learners' variants were measured as, as measurements."""

from collections.abc import Iterable, Mapping
from typing import Any

from taskvectors.learners.variants import Finding, VariantsConfig
from taskvectors.results import Measurement

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
    "probe_r2": None,
    "task_share": None,
}


def of_variants(
    config: VariantsConfig, finding: Finding, names: Iterable[str] = MEASURES, **about: Any
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
                    config, row, name, row[name], low=low, high=high,
                    layer=row["layer"] if by_layer else None, **about,
                )
            )  # fmt: skip
        for name in ("tvp", "icl", "zero_shot"):
            for place, value in enumerate(row.get(f"{name}_error_by_position", ())):
                found.append(
                    measurement_of(
                        config, row, f"{name}_error_by_position", value, layer=row["layer"],
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
    {"icl_error", "zero_shot_error", "base_error", "optimal_error", "locality"}
)


def of_shifts(config: VariantsConfig, finding: Finding) -> list[Measurement]:
    """Errors out of distribution of every variant, and their trend on l*."""
    found = []
    for row in finding.shifts:
        spread = 1.96 * row["icl_standard_error"]
        for name in ("icl_error", "zero_shot_error", "base_error", "optimal_error"):
            ends = (row[name] - spread, row[name] + spread) if name == "icl_error" else (None, None)
            about = {"shift": row["shift"], "n_demonstrations": row["n_demonstrations"]}
            found.append(
                measurement_of(config, row, name, row[name], low=ends[0], high=ends[1], **about)
            )
        found += [
            measurement_of(config, row, "tvp_error", value, layer=layer, **about)
            for layer, value in enumerate(row.get("tvp_error", ()))
        ]
    for trend in finding.trends:
        shared: dict[str, Any] = {"variant": "all l*", "tvp_layer": None, "n": trend["n_layers"]}
        about = {"shift": trend["shift"]}
        found += [
            measurement_of(config, shared, measure, trend[name], **about)
            for measure, name in _OF_A_TREND.items()
        ]
    return found


def measurement_of(
    config: VariantsConfig,
    row: Mapping[str, Any],
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    **about: Any,
) -> Measurement:
    """One number of a variant; what tells it apart is in `about`."""
    shape = config.training.shape
    layer = about.get("layer")
    return Measurement(
        measure=name,
        value=value,
        low=low,
        high=high,
        n=row.get("n"),
        method=str(row["variant"]),
        layers=() if layer is None else (layer,),
        shots=about.get("n_demonstrations", row.get("n_demonstrations")),
        about={
            "learner": f"{shape.body} {shape.n_layers}x{shape.d_model}",
            "tvp_layer": row.get("tvp_layer"),
            **{key: value for key, value in about.items() if value is not None},
        },
    )
