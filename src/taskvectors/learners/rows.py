"""Measures as rows: what the command line prints and a run's folder keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from taskvectors.learners.measures import Measured, locality, measure
from taskvectors.learners.model import Learner
from taskvectors.learners.probes import linear_probe, task_share
from taskvectors.results.drawing import layer_of
from taskvectors.results.learners import IN_DISTRIBUTION, Row

N_DUMMIES = 16
"""Queries that the averaged vector is the mean over."""


def measured_rows(learner: Learner, *, n_trials: int, seed: int) -> list[Row]:
    """One row per layer of a learner: errors, recovery, where it is and how peaked it is.

    In a format without a site for the vector there is one row, whose layer is None.

    Args:
        learner: The learner.
        n_trials: Trials to measure on.
        seed: Seed of the trials.
    """
    found = measure(learner, n_trials=n_trials, seed=seed, n_dummies=N_DUMMIES)
    shared: Row = {
        "shift": found.shift,
        "n_demonstrations": found.n_demonstrations,
        "n": n_trials,
        "icl_error": found.mean(found.icl),
        "zero_shot_error": found.mean(found.zero_shot),
        "base_error": found.base_error,
        "optimal_error": found.mean(found.baselines["optimal"]),
        "near_optimal": found.mean(found.icl)
        <= learner.family.near_optimal + found.mean(found.baselines["optimal"]),
    }
    if found.prompted is None or found.states is None:
        return [shared | {"layer": None}]
    recovery = found.recovery(found.prompted.reset)
    kept = found.recovery(found.prompted.kept)
    averaged = found.recovery(found.prompted.averaged)
    peaked = locality(recovery)
    rows = []
    for layer in range(len(recovery)):
        errors = found.prompted.reset[layer]
        low, high = (None, None)
        if recovery[layer] is not None:
            low, high = found.recovery_interval(errors)
        rows.append(
            shared
            | {
                "layer": layer,
                "tvp_error": found.mean(errors),
                "tvp_error_kept": found.mean(found.prompted.kept[layer]),
                "tvp_error_averaged": found.mean(found.prompted.averaged[layer]),
                "recovery": recovery[layer],
                "recovery_low": low,
                "recovery_high": high,
                "recovery_kept": kept[layer],
                "recovery_averaged": averaged[layer],
                **_wrong_task(found, layer),
                "locality": peaked,
                "probe_r2": linear_probe(found.states[layer, :, 0], found.probe_targets),
                "task_share": task_share(found.states[layer]),
                **_by_position(found, errors),
            }
        )
    return rows


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a learner reached, by name, for its card: from the tidy rows of one learner.

    The errors in and out of context, and of the vector at the layer where it recovers most.

    Args:
        rows: Rows of `of_variants` and of `of_shifts`.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("shift") in (None, IN_DISTRIBUTION) and row["measure"] in _ON_A_CARD:
            name = _ON_A_CARD[row["measure"]]
            if name not in found or (found[name]["low"] is None and row.get("low") is not None):
                found[name] = {key: row.get(key) for key in _OF_A_SCORE}
    by_layer = [row for row in rows if row["measure"] == "recovery" and row.get("shift") is None]
    if by_layer:
        best = max(by_layer, key=lambda row: float(row["value"]))
        layer = layer_of(str(best["layers"]))
        name = f"recovery by the vector at layer {layer:g}"
        found[name] = {key: best.get(key) for key in _OF_A_SCORE}
    return found


_OF_A_SCORE = ("value", "low", "high", "n")
_ON_A_CARD = {
    "icl_error": "error in context",
    "zero_shot_error": "error without demonstrations",
    "optimal_error": "error of the best possible learner",
}


def curve_point(n_trials: int) -> Any:
    """A measure for the emergence curves, which training calls."""

    def point(learner: Learner, step: int) -> Mapping[str, Any]:
        del step  # the same trials at each point
        found = measure(learner, n_trials=n_trials, seed=CURVE_SEED)
        values: Row = {
            "icl_error": found.mean(found.icl),
            "zero_shot_error": found.mean(found.zero_shot),
        }
        if found.prompted is not None:
            values["tvp_error"] = [found.mean(layer) for layer in found.prompted.reset]
            values["recovery"] = found.recovery(found.prompted.reset)
        return values

    return point


def shifted_rows(
    learner: Learner,
    *,
    n_trials: int,
    seed: int,
    longer: Sequence[float] = (2.0,),
) -> list[Row]:
    """The out-of-distribution battery: one row per shift, and per longer context.

    Args:
        learner: The learner.
        n_trials: Trials per row.
        seed: Seed of the trials.
        longer: Contexts, as multiples of the trained number of demonstrations; those that the
            model has no positions for are left out.
    """
    family = learner.family
    trained = family.n_demonstrations
    places = int(learner.hf.config.max_position_embeddings)
    asked = [(shift, shift, trained) for shift in family.shifts]
    for factor in longer:
        n = round(factor * trained)
        if family.n_positions(n) <= places:
            asked.append((f"context-{factor:g}x", IN_DISTRIBUTION, n))
    rows = []
    for name, shift, n in asked:
        found = measure(learner, n_trials=n_trials, seed=seed, n_demonstrations=n, shift=shift)
        row: Row = {
            "shift": name,
            "n_demonstrations": n,
            "n": n_trials,
            "icl_error": found.mean(found.icl),
            "icl_standard_error": _standard_error(found, found.icl),
            "zero_shot_error": found.mean(found.zero_shot),
            "base_error": found.base_error,
            "optimal_error": found.mean(found.baselines["optimal"]),
        }
        if found.prompted is not None:
            row["tvp_error"] = [found.mean(layer) for layer in found.prompted.reset]
            row["recovery"] = found.recovery(found.prompted.reset)
        rows.append(row)
    return rows


CURVE_SEED = 1_000_003
"""Trials of the emergence curves: none that results are reported on."""


def _wrong_task(found: Measured, layer: int) -> Row:
    """Errors with another task's vector, over trials where it asks for another answer."""
    assert found.prompted is not None
    weights = found.weights * found.prompted.is_other.unsqueeze(1)

    def mean(errors: Tensor) -> float:
        return float((errors[layer] * weights).sum() / weights.sum().clamp(min=1))

    return {
        "wrong_task_error": mean(found.prompted.wrong),
        "wrong_task_error_to_injected": mean(found.prompted.wrong_to_injected),
    }


def _by_position(found: Measured, errors: Tensor) -> Row:
    """Curves over all of a query's reads: with the vector, in context, without; where several."""
    if errors.shape[1] == 1:
        return {}

    def curve(values: Tensor) -> list[float]:
        return [float(value) for value in values.mean(dim=0)]

    return {
        "tvp_error_by_position": curve(errors),
        "icl_error_by_position": curve(found.icl),
        "zero_shot_error_by_position": curve(found.zero_shot),
    }


def _standard_error(found: Measured, errors: Tensor) -> float:
    per_trial = (errors * found.weights).sum(dim=1) / found.weights.sum(dim=1).clamp(min=1)
    spread: Tensor = per_trial.std() / torch.tensor(float(len(per_trial))).sqrt()
    return float(spread)
