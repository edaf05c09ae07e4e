"""A vector goes to a hub and comes back: against a small server that speaks its endpoints.

Run with `pytest tests/vectors/test_hub.py`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import hub

from taskvectors import TaskVector
from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.tasks import TaskRequest
from taskvectors.vectors import VectorOrigin, sites_at
from taskvectors.vectors.hub import card_of, portable

SECRET = "/somewhere/of/mine"
__all__ = ["hub"]


@pytest.fixture
def vector() -> TaskVector:
    origin = VectorOrigin(
        method="learned",
        model="tiny",
        location=f"{SECRET}/tiny",
        tokenizer=f"{SECRET}/tiny",
        family="llama",
        task="pairs",
        template="qa",
        request=TaskRequest(source=f"{SECRET}/pairs.csv"),
        settings={"folder": f"{SECRET}/library", "steps": 3},
        scores={"validation_accuracy": 0.75},
    )
    return TaskVector(values=torch.arange(6.0)[None], sites=sites_at([1], [-1]), origin=origin)


def test_a_vector_comes_back_with_the_same_bytes(hub: dict[str, Any], vector: TaskVector) -> None:
    address = vector.push_to_hub("me/pairs-l1")
    assert address.endswith("/me/pairs-l1")
    assert set(hub["me/pairs-l1"]) == {"vector.safetensors", "config.json", "README.md"}
    again = TaskVector.from_pretrained("me/pairs-l1")
    assert torch.equal(again.values, vector.values)
    assert again.sites == vector.sites
    assert again.origin == portable(vector).origin


def test_what_is_pushed_names_no_place_of_this_machine(
    hub: dict[str, Any], vector: TaskVector
) -> None:
    vector.push_to_hub("me/pairs-l1")
    for name, data in hub["me/pairs-l1"].items():
        assert SECRET.encode() not in data, name
    origin = portable(vector).origin
    assert origin.request is None
    assert origin.location == ""
    assert origin.settings == {"folder": "library", "steps": 3}
    assert origin.tokenizer == "tiny"
    assert any("name it with --task" in note for note in origin.notes)
    # what names no path stays as it is
    plain = replace(vector, origin=VectorOrigin(task="capital", location="owner/model"))
    assert portable(plain).origin == plain.origin


def test_the_card_says_what_model_scores_use_and_licence(vector: TaskVector) -> None:
    measures = {"accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 83}
    card = card_of(portable(vector), "me/pairs-l1", measures)
    assert card.startswith("---\n{")
    head = json.loads(card.split("---\n")[1])
    assert head["library_name"] == "taskvectors"
    assert "accuracy 0.500 [0.400, 0.600] on 83 pairs" in card
    assert "validation accuracy: 0.75 (used to choose" in card
    assert 'TaskVector.from_pretrained("me/pairs-l1")' in card
    assert "## Licence" in card
    embedded = replace(vector, origin=VectorOrigin(model="embedded", location="embedded"))
    head = json.loads(card_of(embedded, "me/e").split("---\n")[1])
    assert (head["license"], head["base_model"]) == ("gemma", "google/gemma-3-270m")
    assert "Nothing was measured" in card_of(embedded, "me/e")


def test_what_is_not_there_or_cannot_be_pushed_is_said(
    hub: dict[str, Any], vector: TaskVector
) -> None:
    with pytest.raises(DataError, match="me/none cannot be read from the hub"):
        TaskVector.from_pretrained("me/none")
    with pytest.raises(TaskVectorsError, match="cannot be pushed to the hub"):
        vector.push_to_hub("no name/of this/kind")
    hub["me/empty"] = {"letter.txt": b"hello"}
    with pytest.raises(DataError, match="no readable config"):
        TaskVector.from_pretrained("me/empty")


def test_a_folder_is_read_as_it_is(vector: TaskVector, tmp_path: Path) -> None:
    vector.save(tmp_path / "v")
    assert torch.equal(TaskVector.from_pretrained(str(tmp_path / "v")).values, vector.values)
