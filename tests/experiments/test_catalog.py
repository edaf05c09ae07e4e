"""What is declared of every experiment: names, words, groups, published values.

Run with `pytest tests/experiments/test_catalog.py`.
"""

import json
from typing import Any, get_args

import pytest

from taskvectors.experiments.catalog import language
from taskvectors.experiments.catalog.comparisons import MAIN_TABLE
from taskvectors.experiments.experiment import EXPERIMENTS, PRESETS, Experiment, PresetName
from taskvectors.experiments.paper_configurations import paper_configurations
from taskvectors.explain import ANALYSES
from taskvectors.methods import METHODS
from taskvectors.report.experiment_tables import tables_of
from taskvectors.results import NOT_READ, ComparisonRow, Published, Record, frame_of

NAMES = {
    *("ltv-main-table", "ltv-layer-sweep", "ltv-peft", "ltv-ov", "ltv-key-heads", "ltv-attention"),
    *("ltv-linear", "ltv-rotation", "ltv-geometry", "ltv-transfer", "ltv-composition"),
    *("ltv-generation", "ltv-lens", "ltv-backbones", "ltv-stride", "ltv-dimension"),
    *("ltv-templates", "ltv-states", "ltv-turning"),
    *("tvp-loss", "tvp-locality", "tvp-emergence", "tvp-format", "tvp-depth", "tvp-context"),
    *("tvp-layer", "tvp-ood", "tvp-ginc", "tvp-regbench", "tvp-language"),
    *("tvp-grid", "tvp-spread"),
    *("bijections", "methods-all"),
}


def test_every_table_and_figure_has_its_name() -> None:
    assert set(EXPERIMENTS) == NAMES
    assert get_args(PresetName) == PRESETS


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_experiment_says_what_it_asks_and_what_differs(name: str) -> None:
    one = EXPERIMENTS[name]
    assert one.question.endswith("?")
    for text in (one.title, one.paper, one.what_the_paper_did, one.what_we_do_otherwise):
        assert len(text) > 10
    assert set(one.presets) == set(PRESETS)
    for preset in one.presets.values():
        assert preset.tasks
        assert bool(preset.models) == one.has_models
        keys = [unit.key for unit in one.units(one.name, preset)]
        assert keys
        assert len(set(keys)) == len(keys)


def test_published_values_are_of_the_first_paper_alone() -> None:
    for name, one in EXPERIMENTS.items():
        numbers = [value for value in one.published if value.value != NOT_READ]
        assert all(0 <= value.value < 1 for value in numbers if value.measure != "peak_bytes")
        assert all(value.source and value.model for value in one.published)
        if name.startswith("tvp-"):
            assert not numbers


def test_the_published_main_table_has_the_rows_that_we_have() -> None:
    ours = {preset.name for preset in paper_configurations(32, shots=8)}
    theirs = {value.configuration for value in MAIN_TABLE.published}
    assert theirs <= ours
    assert ours - theirs == {
        "layers 0, 2, ...",
        "layers 0, 2, ... at positions -5 to -1",
        "on 8 shots, trained on 8 shots",
        "a tenth of the heads, 3/8 of the depth",
    }


def rows_like(one: Experiment, value: Published) -> list[dict[str, Any]]:
    """Rows as the experiment's own code names them, of which one is to stand beside a value."""
    layers = "[0, 4]" if value.layers == "several" else "[4]"
    common: dict[str, Any] = {
        "experiment": one.name, "model": "m", "task": value.task or "capital", "seed": 0,
        "layers": layers, "positions": "[-1]",
    }  # fmt: skip
    if "analysis" in value.about:
        columns = ANALYSES[value.about["analysis"]].record_columns
        own = {column: key for key, column in columns.names.items()}
        row = {own.get(name, name): held for name, held in value.about.items()}
        assert {name for name in row if name != "analysis"} <= {*columns.keys}
        tidy = columns.measurements(
            value.about["analysis"], [row | {value.measure: 0.5}], method="learned"
        )
    else:
        wide = ComparisonRow(
            method=value.method, configuration=value.configuration, layers=json.loads(layers),
            positions=[-1], strength=None, shots=0, selected=True, is_control=False, seed=0,
            **({"accuracy": 0.5} | {value.measure: 5 if value.measure == "peak_bytes" else 0.5}),
        )  # fmt: skip
        tidy = wide.measurements()
    return [row.as_row() | common for row in tidy]


@pytest.mark.parametrize("name", [name for name, one in EXPERIMENTS.items() if one.published])
def test_every_published_value_stands_beside_the_row_that_is_like_it(name: str) -> None:
    one = EXPERIMENTS[name]
    numbers = [value for value in one.published if value.value != NOT_READ]
    for value in numbers:
        assert not value.method or value.method in METHODS
        assert value.configuration in {"", *(one.name for one in paper_configurations(32, shots=8))}
        record = Record(
            kind="experiment",
            metadata={"title": one.title, "shown": [*one.shown, value.measure]},
            frame=frame_of(rows_like(one, value)),
            published=(value,),
        )
        tables = [table for table in tables_of(record) if table.name != "published-alone"]
        cells = [cell for table in tables for row in table.texts for cell in row]
        assert any(cell.endswith(f"({value.model})") for cell in cells), value
        assert [table.name for table in tables_of(record)] == [table.name for table in tables]


def test_the_rotations_test_has_enough_layers_to_say_yes(fresh_model: Any) -> None:
    from taskvectors.experiments.catalog.shared.learned_vectors import layers_at
    from taskvectors.explain.shared.change_point import change_point

    depths = EXPERIMENTS["ltv-rotation"].presets["cpu"].depths
    for n_layers in (18, 30):  # the embedded model, SmolLM2-135M
        layers = layers_at(fresh_model("llama", num_hidden_layers=n_layers), depths)
        assert layers == tuple(range(n_layers - 1))
        step = [float(layer > n_layers // 2) for layer in layers]
        found = change_point(layers, step)
        assert found is not None
        assert found.p.smallest < 0.01
        assert found.p.value < 0.01


def test_whole_groups_are_held_out_of_continued_training() -> None:
    tasks = ("antonym", "capital", "hub:sst2@a/b", "hub:trec@a", "hub:snli@c", "hub:rte@c/rte")
    (unit,) = EXPERIMENTS["tvp-language"].units(
        "tvp-language",
        EXPERIMENTS["tvp-language"].presets["cpu"].model_copy(update={"tasks": tasks}),
    )
    config = language._config(unit, EXPERIMENTS["tvp-language"].presets["cpu"], 18)
    assert config.trained == ("antonym", "hub:sst2@a/b", "hub:trec@a")
    assert config.held_out == ("capital", "hub:snli@c", "hub:rte@c/rte")
