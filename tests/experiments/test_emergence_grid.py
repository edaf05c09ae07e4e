"""Where a vector emerges by itself: the grid, what is kept of a setting, and the boundary.

Run with `pytest tests/experiments/test_emergence_grid.py`.
"""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from taskvectors.experiments.catalog import emergence_grid as grid
from taskvectors.experiments.experiment import EXPERIMENTS, Preset, WorkDir
from taskvectors.models import load_model
from taskvectors.results import Cell


def test_the_grid_is_the_same_each_time_and_even_on_every_axis() -> None:
    units = grid._units("tvp-grid", EXPERIMENTS["tvp-grid"].presets["cpu"])
    assert len(units) >= 115
    assert len({unit.key for unit in units}) == len(units)
    for family in ("offset", "linear"):
        found = grid.settings_of(family)
        assert found == grid.settings_of(family)
        for axis in ("n_tasks", "format", "body", "n_layers", "d_model", "length"):
            counts = Counter(getattr(one, axis) for one in found).values()
            assert max(counts) - min(counts) <= 3


def planted(*, is_random: bool = False) -> pd.DataFrame:
    """Rows of 60 settings; a vector emerges with more than 50 tasks, or at every third."""
    rows = []
    for number, one in enumerate(grid.settings_of("linear")):
        tasks = one.n_tasks or grid._LARGEST
        low = 0.2 if (number % 3 == 0 if is_random else tasks > 50) else -0.2
        shared = {
            "task": "linear", "seed": 0, "changed": one.name, "n_tasks": tasks,
            "format": one.format, "body": one.body, "n_layers": one.n_layers,
            "d_model": one.d_model, "n_steps": 750, "shift": None, "low": None, "high": None,
        }  # fmt: skip
        rows.append(shared | {"measure": "icl_error", "value": 0.1})
        rows.append(shared | {"measure": "base_error", "value": 0.9})
        rows.append(shared | {"measure": "wrong_task_error_to_injected", "value": 0.5})
        rows.append(shared | {"measure": "recovery", "value": low + 0.1, "low": low, "high": 0.9})
        # what is measured on new tasks says nothing about where a vector emerged
        new = {"measure": "recovery", "value": -9.0, "low": -9.0, "high": 9.0, "shift": "held-out"}
        rows.append(shared | new)
    return pd.DataFrame(rows)


def test_a_boundary_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    table = grid.emerged(planted())
    assert table["emerged"].sum() == table["n_tasks"].gt(50).sum()
    found = grid.boundary(table)
    assert found is not None
    assert found.accuracy > 0.8 > found.most_frequent + 0.2
    assert max(found.weights, key=lambda name: abs(found.weights[name])) == "log n_tasks"
    assert found.n_fitted + found.n_predicted == len(table)
    none = grid.boundary(grid.emerged(planted(is_random=True)))
    assert none is not None
    assert none.accuracy < none.most_frequent + 0.1


def test_seeds_of_a_setting_are_on_one_side_and_one_outcome_has_no_boundary() -> None:
    rows = planted()
    twice = pd.concat([rows, rows.assign(seed=1)])
    found = grid.boundary(grid.emerged(twice))
    assert found is not None
    assert found.n_fitted == 2 * ((len(rows) // 5 + 1) // 2)
    assert grid.boundary(grid.emerged(rows.assign(low=1.0))) is None


def test_a_learner_without_recovery_has_no_vector() -> None:
    rows = planted()
    table = grid.emerged(rows[~rows["measure"].eq("recovery")].assign(low=1.0))
    assert len(table) == len(rows) // 5
    assert not table["emerged"].any()


@pytest.mark.parametrize(
    ("measure", "value"), [("icl_error", 0.5), ("wrong_task_error_to_injected", 0.85)]
)
def test_what_recovers_is_no_vector_where_nothing_is_learned_or_another_task_is_not_answered(
    measure: str, value: float
) -> None:
    rows = planted()
    assert grid.emerged(rows)["emerged"].any()
    rows.loc[rows["measure"].eq(measure) & rows["shift"].isna(), "value"] = value
    assert not grid.emerged(rows)["emerged"].any()


@pytest.mark.parametrize(
    ("curve", "chosen"), [([0.1, 0.4, 9.0], 1), ([None, None], None), ([], None)]
)
def test_the_last_block_is_no_place_since_nothing_reads_the_query_after_it(
    curve: list[float | None], chosen: int | None
) -> None:
    assert grid._best_layer(curve) == chosen


def test_a_setting_is_trained_as_it_says(tmp_path: Path) -> None:
    preset = Preset(tasks=("linear",), shrink=250, n_trials=16)
    one = next(s for s in grid.settings_of("linear") if s.n_tasks == 8 and s.length < 1)
    (unit,) = (
        unit
        for unit in grid._units("tvp-grid", preset.model_copy(update={"shrink": 1}))
        if unit.part == one.name
    )
    config = grid._config(unit, preset)
    assert config.training.steps == config.training.tvp_from
    assert config.training.shape.d_model == one.d_model
    assert config.settings["n_train_tasks"] == 8
    work_dir = WorkDir(folder=tmp_path / "own", shared=tmp_path / "shared", load=load_model)
    found = grid._run(unit, preset, work_dir)
    cell: Cell = found.cell(unit)
    assert {row["n_tasks"] for row in cell.rows} == {8}
    assert {row["measure"] for row in cell.rows} >= {"icl_error", "base_error", "optimal_error"}


def test_the_figure_says_what_the_boundary_predicts_and_the_most_frequent_outcome() -> None:
    rows = planted().assign(layers="[1]")
    (figure,) = grid._drawn(rows)
    table = grid.emerged(rows)
    found = grid.boundary(table)
    assert found is not None
    assert f"in {table['emerged'].sum()} a vector emerged" in figure.caption
    assert f"right about {found.accuracy:.0%} of the {found.n_predicted} others" in figure.caption
    assert f"right about {found.most_frequent:.0%}." in figure.caption
    (one,) = grid._drawn(rows.assign(low=1.0))
    assert "A boundary needs both outcomes" in one.caption
