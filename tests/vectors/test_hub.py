"""A vector goes to a hub and comes back: against a small server that speaks its endpoints.

Run with `pytest tests/vectors/test_hub.py`.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors import TaskVector
from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.tasks import TaskRequest
from taskvectors.vectors import VectorOrigin, sites_at
from taskvectors.vectors.hub import card_of, portable

COMMIT = "a" * 40
SECRET = "/somewhere/of/mine"


class Hub(BaseHTTPRequestHandler):
    """Creates, takes commits, lists and gives files; everything is in memory."""

    files: dict[str, dict[str, bytes]]

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, found: Any, code: int = 200, **headers: str) -> None:
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(code)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def url(self, *parts: str) -> str:
        return "/".join((f"http://{self.headers['Host']}", *parts))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            said = json.loads(body)
            repo = f"{said.get('organization') or 'me'}/{said['name'].split('/')[-1]}"
            self.files.setdefault(repo, {})
            return self.answer({"url": self.url(repo), "id": repo})
        found = re.fullmatch(r"/api/models/(\w+/[\w-]+)/(preupload|commit)/main(\?.*)?", self.path)
        if found is None:
            return self.answer({"errors": [], "warnings": []})  # of the card's head
        if found[2] == "preupload":
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular"} for f in files]
            return self.answer({"files": [one | {"shouldIgnore": False} for one in modes]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                data = base64.b64decode(line["value"]["content"])
                self.files[found[1]][line["value"]["path"]] = data
        about = {
            "success": True,
            "commitOid": COMMIT,
            "commitUrl": self.url(found[1], "commit", COMMIT),
        }
        return self.answer(about)

    def do_GET(self) -> None:
        found = re.fullmatch(r"/api/models/(\w+/[\w-]+)(/revision/[^/?]+)?(\?.*)?", self.path)
        if found is not None:
            if found[1] not in self.files:
                return self.answer({"error": "no"}, 404, X_Error_Code="RepoNotFound")
            names = [{"rfilename": name} for name in self.files[found[1]]]
            return self.answer({"id": found[1], "sha": COMMIT, "siblings": names})
        found = re.fullmatch(r"/api/models/(\w+/[\w-]+)/tree/\w+(\?.*)?", self.path)
        if found is not None and found[1] in self.files:
            held = self.files[found[1]].items()
            return self.answer(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": COMMIT}
                    for name, data in held
                ]
            )
        found = re.fullmatch(r"/(\w+/[\w-]+)/resolve/[^/]+/(.+)", self.path)
        if found is None or found[2] not in self.files.get(found[1], {}):
            return self.answer({"error": "no"}, 404, X_Error_Code="EntryNotFound")
        data = self.files[found[1]][found[2]]
        return self.answer(data, ETag=f'"{found[2]}-{len(data)}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The files of a hub that this process talks to, by repository."""
    import huggingface_hub
    from huggingface_hub import constants

    files: dict[str, dict[str, bytes]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Hub,), {"files": files}))
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    huggingface_hub.close_session()
    yield files
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()


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
