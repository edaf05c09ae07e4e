"""A small server that speaks the endpoints of the Hugging Face hub, for vectors and learners."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "a" * 40


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
