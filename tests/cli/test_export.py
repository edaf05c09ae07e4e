"""`taskvectors export`, and the verbs that take what it wrote.

Run with `pytest tests/cli/test_export.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvectors import TaskVector
from taskvectors.vectors import sites_at

pytest.importorskip("gguf")
Tv = Callable[..., Any]


def test_a_vector_at_every_token_is_exported_and_goes_on_working(
    *,
    tv: Tv,
    on_model: list[object],
    on_both: list[object],
    vector: Path,
    tmp_path: Path,
) -> None:
    last = TaskVector.load(vector)
    values = torch.cat([last.values[:1]] * 2)
    everywhere = replace(last, values=values, sites=sites_at([1], ["all", "generated"]))
    everywhere.save(tmp_path / "everywhere")
    file = tmp_path / "v.gguf"
    said = tv("export", "--vector", tmp_path / "everywhere", "--out", file, "--json")
    assert said.code == 0, said.err
    assert said.json["file"] == str(file)
    assert said.json["layers"] == [1]
    assert said.json["is_equivalent"]
    assert any("every token" in note for note in said.json["notes"])
    prompt = ("--prompt", "hot ->", "--max-new-tokens", 3, "--json")
    rows = [
        tv("generate", *on_model, "--vector", place, *prompt).json["rows"][1]["completion"]
        for place in (tmp_path / "everywhere", file)
    ]
    assert rows[0] == rows[1]
    measured = [
        tv("evaluate", *on_both, "--template", "arrow", "--seed", 1, "--vector", place, "--json")
        for place in (tmp_path / "everywhere", file)
    ]
    log_probabilities = [said.json["rows"][1]["answer_logprob"] for said in measured]
    assert log_probabilities[0] == pytest.approx(log_probabilities[1], abs=1e-6)
    assert log_probabilities[0] != pytest.approx(measured[0].json["rows"][0]["answer_logprob"])


def test_a_vector_at_the_last_token_is_exported_only_by_force(
    tv: Tv, vector: Path, tmp_path: Path
) -> None:
    words = ("export", "--vector", vector, "--format", "gguf", "--out", tmp_path / "v.gguf")
    said = tv(*words)
    assert said.code == 2
    assert "acts at -1 only" in said.err
    assert "--force" in said.err
    assert not (tmp_path / "v.gguf").exists()
    said = tv(*words, "--force")
    assert said.code == 0
    assert "by force" in said.out
    assert (tmp_path / "v.gguf").is_file()
