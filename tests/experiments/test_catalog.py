"""What is declared of every experiment: names, words, groups, published values.

Run with `pytest tests/experiments/test_catalog.py`.
"""

from typing import get_args

import pytest

from taskvectors.experiments.catalog import EXPERIMENTS
from taskvectors.experiments.catalog.comparisons import MAIN_TABLE
from taskvectors.experiments.experiment import PRESETS, PresetName
from taskvectors.experiments.presets import paper_presets
from taskvectors.explain import ANALYSES
from taskvectors.results import NOT_READ

NAMES = {
    *("ltv-main-table", "ltv-layer-sweep", "ltv-peft", "ltv-ov", "ltv-key-heads", "ltv-attention"),
    *("ltv-linear", "ltv-rotation", "ltv-geometry", "ltv-transfer", "ltv-composition"),
    *("ltv-generation", "ltv-lens", "ltv-backbones", "ltv-stride"),
    *("tvp-loss", "tvp-locality", "tvp-emergence", "tvp-format", "tvp-depth", "tvp-context"),
    *("tvp-layer", "tvp-ood", "tvp-ginc", "tvp-regbench", "tvp-language"),
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
    assert set(one.scales) == set(PRESETS)
    for scale in one.scales.values():
        assert scale.tasks
        assert bool(scale.models) == one.has_models
        keys = [group.key for group in one.groups(one.name, scale)]
        assert keys
        assert len(set(keys)) == len(keys)


def test_published_values_are_of_the_first_paper_alone() -> None:
    for name, one in EXPERIMENTS.items():
        numbers = [value for value in one.published if value.value != NOT_READ]
        assert all(0 <= value.value < 20 for value in numbers)  # shares, seconds, gigabytes
        assert all(value.source and value.model for value in one.published)
        if name.startswith("tvp-"):
            assert not numbers


def test_the_published_main_table_has_the_rows_that_we_have() -> None:
    ours = {preset.name for preset in paper_presets(32, shots=8)}
    theirs = {value.configuration for value in MAIN_TABLE.published}
    assert theirs <= ours
    assert ours - theirs == {
        "layers 0, 2, ...",
        "layers 0, 2, ... at positions -5 to -1",
        "on 8 shots, trained on 8 shots",
    }


def test_published_reconstructions_stand_beside_our_rows() -> None:
    rows = [{"variant": variant, "layer": 3, "accuracy": 0.5} for variant in ("vector", "paper")]
    shared = {"method": "learned", "layers": (3,)}
    columns = ANALYSES["ov-reconstruction"].record_columns
    tidy = columns.measurements("ov-reconstruction", rows, **shared)
    ours = {one.configuration for one in tidy}
    theirs = {one.configuration for one in EXPERIMENTS["ltv-ov"].published}
    assert ours < theirs
