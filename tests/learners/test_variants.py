"""Variants side by side, end to end on learners too small to learn anything."""

import logging
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import FAMILIES, LearnerShape, TrainingConfig, VariantsConfig, load_family
from taskvectors.learners.devices import Devices
from taskvectors.learners.training import SHARED
from taskvectors.learners.variants import (
    EQUAL_FLOPS,
    VANILLA,
    flops_ratio,
    read_finding,
    train_variants,
    trends_of,
)
from taskvectors.report import page_of
from taskvectors.results import Record, frame_of, read_run
from taskvectors.results.learners import MEASURES, Finding, finding_of, of_shifts, of_variants

CONFIG = VariantsConfig(
    task="offset",
    settings={"n_symbols": 7, "n_demonstrations": 3},
    training=TrainingConfig(
        shape=LearnerShape(n_layers=4, d_model=8, n_heads=1),
        steps=4,
        tvp_from=2,
        batch_size=2,
        n_curve_trials=4,
        measure_every=2,
    ),
    tvp_layers=(None, 0, 1, 2),
    equal_flops=True,
    n_trials=8,
    with_shifts=True,
)
FIELDS = {
    "variant",
    "seed",
    "layer",
    "tvp_layer",
    "icl_error",
    "tvp_error",
    "recovery",
    "wrong_task_error",
}


def run(folder: Path, config: VariantsConfig = CONFIG, **options: Any) -> Any:
    return finding_of(train_variants(config, folder, devices=Devices("cpu"), **options).frame)


@pytest.mark.slow(small_models=True)
def test_all_variants_are_trained_measured_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = run(tmp_path)
    names = [VANILLA, "tvp-0", "tvp-1", "tvp-2", EQUAL_FLOPS]
    assert list(dict.fromkeys(row["variant"] for row in found.rows)) == names
    assert [row["layer"] for row in found.rows if row["variant"] == "tvp-1"] == [0, 1, 2, 3]
    assert all(set(row) >= FIELDS for row in found.rows)
    shifts = {row["shift"] for row in found.shifts}
    assert shifts == {"none", "held-out", "query-shown", "context-2x"}
    assert {row["shift"] for row in found.trends} == shifts
    assert (tmp_path / "seed-0" / VANILLA / SHARED).is_file()
    assert caplog.messages.count("going on from step 2") == 4
    kept = read_finding(CONFIG, tmp_path)
    assert kept == found
    assert read_finding(CONFIG.model_copy(update={"n_trials": 9}), tmp_path) is None
    record = read_run(tmp_path)
    assert record.kind == "train"
    assert {"icl_error", "recovery", "trend_correlation"} <= set(record.frame["measure"])
    assert set(record.curves["variant"]) == set(names)
    caplog.clear()
    repeated = run(tmp_path)
    assert repeated.rows == found.rows
    assert caplog.messages.count("finished before") == 5
    assert caplog.messages.count("measured before") == 5


def test_what_is_asked_anew_is_measured_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = CONFIG.model_copy(
        update={"tvp_layers": (None,), "equal_flops": False, "with_shifts": False}
    )
    assert run(tmp_path, config).rows[0]["n"] == 8
    more = run(tmp_path, config.model_copy(update={"n_trials": 16}))
    assert more.rows[0]["n"] == 16
    assert "measured before" not in caplog.messages


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"tvp_layers": (None,), "with_shifts": False})
    run(tmp_path, config)
    slower = config.training.model_copy(update={"learning_rate": 1e-5})
    with pytest.raises(DataError, match="other settings"):
        run(tmp_path, config.model_copy(update={"training": slower}))


def test_a_format_without_a_place_for_the_vector_trains_vanilla_alone(tmp_path: Path) -> None:
    pairs = CONFIG.model_copy(update={"settings": CONFIG.settings | {"format": "xy"}})
    with pytest.raises(TaskVectorsError, match="undefined"):
        run(tmp_path, pairs)
    found = run(tmp_path, pairs.model_copy(update={"tvp_layers": (None,)}))
    assert [row["layer"] for row in found.rows] == [None]
    assert "tvp_error" not in found.rows[0]


def test_the_cost_of_the_tvp_loss_is_counted_column_by_column() -> None:
    config = CONFIG.training.model_copy(update={"tvp_layer": 1})
    # 3 sites; x' alone goes through blocks 0 and 1, x' and z through 2 and 3; the sequence has 11
    family = load_family("offset", CONFIG.settings)
    assert flops_ratio(family, config) == pytest.approx(1 + 3 * (2 * 1 + 2 * 2) / (4 * 11))
    before = load_family("offset", CONFIG.settings | {"format": "zxy"})
    assert flops_ratio(before, config) == pytest.approx(1 + 3 * (4 * 2) / (4 * 11))


def test_several_places_are_one_variant_and_cost_as_many_queries(tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={"tvp_layers": (1, (0, 2)), "equal_flops": False, "with_shifts": False}
    )
    found = run(tmp_path, config)
    layers = {row["variant"]: row["tvp_layer"] for row in found.rows}
    assert layers == {"tvp-0+2": None, "tvp-1": 1}
    family = load_family("offset", CONFIG.settings)
    low, high, both = (
        flops_ratio(family, CONFIG.training.model_copy(update={"tvp_layer": layer}))
        for layer in (0, 2, (0, 2))
    )
    assert both - 1 == pytest.approx(low - 1 + high - 1)
    assert read_finding(config, tmp_path) == found
    for wrong, why in (((0, 3), "no place"), ((1, 1), "different layers"), ((), "different")):
        with pytest.raises(ValueError, match=why):
            VariantsConfig(task="offset", tvp_layers=(wrong,))


def test_a_trend_needs_three_layers_and_leaves_vanilla_out() -> None:
    def row(layer: int | None, error: float) -> dict[str, Any]:
        return {"shift": "s", "seed": 0, "tvp_layer": layer, "icl_error": error}

    assert trends_of([row(None, 9), row(0, 3), row(1, 2)]) == []
    (found,) = trends_of([row(None, 0), row(2, 1), row(0, 3), row(1, 2)])
    assert found["correlation"] == -1


@pytest.mark.parametrize("name", FAMILIES)
def test_presets_of_a_family_are_of_it_and_train_both_variants(name: str) -> None:
    assert {"cpu", "paper"} <= set(FAMILIES[name].presets)
    for config in FAMILIES[name].presets.values():
        assert config.task == name
        load_family(name, config.settings)
        assert None in config.tvp_layers
        assert len(config.tvp_layers) > 1


def test_wide_rows_of_learners_are_the_same_after_being_tidy() -> None:
    """With and without a site for the vector, with curves over positions, with shifts."""
    shape = CONFIG.training.shape
    about = {"variant": "tvp-1", "seed": 3, "tvp_layer": 1, "steps": 40}
    shared = about | {"shift": "none", "n_demonstrations": 3, "n": 8, "icl_error": 0.5}
    shared |= {"zero_shot_error": 1.0, "base_error": 0.75, "optimal_error": 0.25}
    shared |= {"near_optimal": True}
    per_layer = {name: 0.5 for name in MEASURES if name not in shared}
    per_layer |= {"recovery_low": 0.25, "recovery_high": 0.75}
    curves = {f"{name}_error_by_position": [0.5, 0.25] for name in ("tvp", "icl", "zero_shot")}
    absent = {"recovery": None, "recovery_low": None, "recovery_high": None}
    rows = [
        shared | per_layer | curves | {"layer": 0},
        shared | per_layer | curves | absent | {"layer": 1},
        shared | {"variant": "vanilla", "tvp_layer": None, "layer": None},
    ]
    shifts = [
        {name: value for name, value in shared.items() if name != "near_optimal"}
        | {"shift": "held-out", "icl_standard_error": 0.125, "tvp_error": [0.5, 0.75]}
        | {"recovery": [None, 0.25]}
    ]
    trend = {"shift": "held-out", "correlation": 0.5, "p_value": 0.2, "smallest_p_value": 0.1}
    finding = Finding(rows=rows, shifts=shifts, trends=[trend | {"n_layers": 4, "n_seeds": 1}])
    tidy = [*of_variants(shape.name, finding), *of_shifts(shape.name, finding)]
    assert finding_of(frame_of(one.as_row() for one in tidy)) == finding


def headline_with(*, near: bool = True, **about: Any) -> str:
    """The headline about one learner at two layers, with values of the second changed."""
    row = {
        "variant": "tvp-1", "seed": 0, "tvp_layer": 1, "n": 64, "n_demonstrations": 6, "steps": 9,
        "near_optimal": near, "icl_error": 0.01, "recovery": 0.5, "recovery_low": 0.4,
        "recovery_high": 0.6,
    }  # fmt: skip
    rows = [row | {"layer": 0}, row | {"layer": 1} | about]
    finding = Finding(rows=rows, shifts=(), trends=())
    tidy = [one.as_row(task="offset") for one in of_variants("gpt2 2x8", finding)]
    metadata = {"task": "offset", "model": "gpt2 2x8"}
    return page_of(Record(kind="train", metadata=metadata, frame=frame_of(tidy))).headline


def test_a_page_says_what_a_vector_keeps_where_it_was_formed_if_the_learner_is_good() -> None:
    kept = {"recovery": 0.1, "recovery_low": 0.05, "recovery_high": 0.15}
    assert headline_with(**kept) == (  # at its own layer, not at the best one
        "Of what demonstrations gain, a vector keeps 0.100 [0.050, 0.150] at layer 1 of tvp-1."
    )
    assert headline_with(near=False, **kept) == (
        "No learner is near the best that demonstrations allow, so its recovery says little."
    )
