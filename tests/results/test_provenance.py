"""What a run is made from has another hash as soon as it is another.

Run with `pytest tests/results/test_provenance.py`.
"""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from safetensors.torch import save_file
from torch import arange

from taskvectors.results import provenance
from taskvectors.results.provenance import inputs_of_named_task, inputs_of_source
from taskvectors.tasks import load_task


def test_a_file_and_a_folder_of_a_task_are_hashed(tmp_path: Path) -> None:
    file, folder = tmp_path / "pairs.csv", tmp_path / "splits"
    folder.mkdir()
    (folder / "train.csv").write_text("input,output\na,b\n")
    file.write_text("input,output\na,b\n")
    before = [inputs_of_named_task(str(one), (0,)) for one in (file, folder)]
    assert all(before)
    assert before == [inputs_of_named_task(str(one), (0,)) for one in (file, folder)]
    for path in (file, folder / "train.csv"):
        path.write_text("input,output\na,c\n")
    after = [inputs_of_named_task(str(one), (0,)) for one in (file, folder)]
    assert [one.keys() for one in before] == [one.keys() for one in after]
    assert not any(one == other for one, other in zip(before, after, strict=True))


def test_a_data_set_of_the_hub_is_hashed_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"word {number}", str(number)) for number in range(40)]

    def loaded(_: str, *, seed: int) -> Any:
        return load_task(pairs, seed=seed, n_train=4, n_validation=2, n_test=2)

    monkeypatch.setattr(provenance, "load_task", loaded)
    before = inputs_of_named_task("hub:owner/name", (0, 1))
    assert len(before) == 2
    pairs[:] = [(word, answer + "!") for word, answer in pairs]
    after = inputs_of_named_task("hub:owner/name", (0, 1))
    assert not any(before[name] == after[name] for name in before)


def test_a_model_of_the_hub_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def downloaded(source: str, name: str, revision: str | None = None) -> str:
        asked.append(revision)
        return str(tmp_path / "snapshots" / f"commit-of-{source[-1]}" / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", downloaded)
    found = [inputs_of_source(source, "v1") for source in ("owner/a", "owner/b")]
    assert [*found[0].values(), *found[1].values()] == ["commit-of-a", "commit-of-b"]
    assert asked == ["v1", "v1"]


def test_a_model_that_cannot_be_reached_has_no_hash_and_needs_no_network() -> None:
    for source in ("embedded", "random-gpt2", "owner/not-there", "not a name at all!"):
        assert inputs_of_source(source) == {}


def test_other_weights_in_a_folder_have_another_hash(tmp_path: Path) -> None:
    save_file({"a": arange(4.0)}, tmp_path / "model.safetensors")
    before = inputs_of_source(str(tmp_path))
    save_file({"a": arange(1.0, 5.0)}, tmp_path / "model.safetensors")
    assert before
    assert inputs_of_source(str(tmp_path)) != before


def test_what_comes_with_the_package_has_no_hash_of_its_own() -> None:
    assert inputs_of_named_task("capital", (0,)) == {}
    assert inputs_of_named_task("offset", (0,)) == {}
