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
from taskvectors.learners import Learner

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
