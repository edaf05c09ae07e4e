"""A learner goes to a hub and comes back: against the small server of the tests."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import hub

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.learners import Learner, LearnerShape, TrainingConfig, VariantsConfig
from taskvectors.learners.devices import Devices
from taskvectors.learners.variants import train_variants
from taskvectors.results.learners import finding_of

__all__ = ["hub"]
SECRET = "/somewhere/of/mine"


@pytest.fixture
def learner(tiny_learner: Callable[..., Any]) -> Learner:
    found: Learner = tiny_learner("offset")
    about = {"training": {"steps": 7, "tvp_layer": 1}, "folder": f"{SECRET}/run"}
    return replace(found, about=about)


def test_a_learner_comes_back_with_the_same_weights(hub: dict[str, Any], learner: Learner) -> None:
    assert learner.push_to_hub("me/offset").endswith("/me/offset")
    assert {"learner.json", "config.json", "model.safetensors"} < set(hub["me/offset"])
    again = Learner.from_pretrained("me/offset")
    before, after = learner.hf.state_dict(), again.hf.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.family == learner.family
    assert again.about == {"training": {"steps": 7, "tvp_layer": 1}, "folder": "run"}


def test_the_card_says_what_it_is_and_no_file_names_a_place_of_this_machine(
    hub: dict[str, Any], learner: Learner
) -> None:
    learner.push_to_hub("me/offset")
    for name, data in hub["me/offset"].items():
        assert SECRET.encode() not in data, name
    card = hub["me/offset"]["README.md"].decode()
    assert json.loads(card.split("---\n")[1])["library_name"] == "taskvectors"
    assert "| family of tasks | offset |" in card
    assert "| a vector was asked for at layer | 1 |" in card
    assert "| steps | 7 |" in card
    assert 'Learner.from_pretrained("me/offset")' in card


def test_what_training_measured_is_on_the_card(hub: dict[str, Any], tmp_path: Path) -> None:
    config = VariantsConfig(
        task="offset",
        settings={"n_symbols": 7, "n_demonstrations": 3},
        training=TrainingConfig(
            shape=LearnerShape(n_layers=3, d_model=8, n_heads=1), steps=2, tvp_from=1,
            batch_size=2, n_curve_trials=4, measure_every=2,
        ),
        tvp_layers=(1,),
        n_trials=8,
        with_shifts=True,
    )  # fmt: skip
    for _ in range(2):  # a run that goes on keeps what was measured before
        record = train_variants(config, tmp_path, devices=Devices("cpu"))
        learner = Learner.load(tmp_path / "seed-0" / "tvp-1")
        scores = learner.about["scores"]
        rows = [row for row in finding_of(record.frame).rows if row["variant"] == "tvp-1"]
        assert scores["error in context"]["value"] == pytest.approx(rows[0]["icl_error"])
        assert scores["error in context"]["low"] <= scores["error in context"]["high"]
        known = [row for row in rows if row.get("recovery") is not None]
        best = max(known, key=lambda row: row["recovery"], default=None)
        found = [name for name in scores if name.startswith("recovery")]
        assert found == (
            [] if best is None else [f"recovery by the vector at layer {best['layer']}"]
        )
    learner.push_to_hub("me/offset")
    score = scores["error in context"]
    line = (
        f"- error in context: {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] on 8"
    )
    assert line in hub["me/offset"]["README.md"].decode()
    assert Learner.from_pretrained("me/offset").about["scores"] == scores


def test_what_is_not_there_or_cannot_be_pushed_is_said(
    hub: dict[str, Any], learner: Learner, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="me/none cannot be read from the hub"):
        Learner.from_pretrained("me/none")
    with pytest.raises(TaskVectorsError, match="cannot be pushed to the hub"):
        learner.push_to_hub("no name/of this/kind")
    hub["me/empty"] = {"letter.txt": b"hello"}
    with pytest.raises(DataError, match="holds no learner"):
        Learner.from_pretrained("me/empty")
    learner.save(tmp_path / "mine")
    assert Learner.from_pretrained(str(tmp_path / "mine")).family == learner.family
