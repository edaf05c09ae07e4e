"""Vectors on disk: exact, whole or not at all, and never read by guessing.

Run with `pytest tests/vectors/test_storage.py`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from taskvectors.errors import DataError
from taskvectors.vectors import Site, TaskVector, VectorOrigin, sites_at, storage

Made = Callable[..., Any]


@pytest.fixture
def vector(tiny_model: Made) -> TaskVector:
    generator = torch.Generator().manual_seed(0)
    model = tiny_model("llama")
    sites = (*sites_at([-1, 2], [-1, 4, "query_last"]), Site(1, "all", "mlp_out"))
    return TaskVector(
        values=torch.randn(7, model.d_model, generator=generator) * 1e3,
        sites=sites,
        operation="replace",
        origin=VectorOrigin.of_model(
            model,
            method="learned",
            task="größe ✓",
            template="qa",
            seed=0,
            shots=8,
            settings={"steps": 60, "rate": 0.005, "strengths": [1.0, 2.0]},
            scores={"accuracy": 0.75, "label_accuracy": None},
            notes=("one", "two"),
        ),
    )


def test_a_rotation_that_was_saved_as_a_turn_is_read(vector: TaskVector, tmp_path: Path) -> None:
    replace(vector, operation="rotate").save(tmp_path / "v")
    config = tmp_path / "v" / "config.json"
    config.write_text(config.read_text().replace('"rotate"', '"turn"'))
    assert TaskVector.load(tmp_path / "v").operation == "rotate"


def test_the_vector_of_a_run_is_found_in_its_folder(vector: TaskVector, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    vector.save(tmp_path / "run" / "best-vector")
    assert torch.equal(TaskVector.load(tmp_path / "run").values, vector.values)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_loaded_is_what_was_saved_to_the_last_bit(
    vector: TaskVector, tmp_path: Path
) -> None:
    vector.save(tmp_path / "new" / "vector")
    loaded = TaskVector.load(str(tmp_path / "new" / "vector"))
    assert torch.equal(loaded.values, vector.values)
    assert loaded.values.dtype == torch.float32
    assert (loaded.sites, loaded.operation) == (vector.sites, vector.operation)
    assert loaded.origin == vector.origin
    assert set(files_of(tmp_path)) == {"new/vector/vector.safetensors", "new/vector/config.json"}


def test_a_vector_in_another_type_is_saved_as_float32(vector: TaskVector, tmp_path: Path) -> None:
    half = vector.to(dtype=torch.bfloat16)
    half.save(tmp_path / "half")
    assert torch.equal(TaskVector.load(tmp_path / "half").values, half.values.float())


def test_a_loaded_vector_still_fits_its_model_alone(
    vector: TaskVector, tmp_path: Path, tiny_model: Made
) -> None:
    vector.save(tmp_path / "vector")
    TaskVector.load(tmp_path / "vector").check_model(tiny_model("llama"))


def test_saving_again_replaces_the_vector(vector: TaskVector, tmp_path: Path) -> None:
    vector.save(tmp_path / "vector")
    (2 * vector).save(tmp_path / "vector")
    assert torch.equal(TaskVector.load(tmp_path / "vector").values, 2 * vector.values)
    assert [path.name for path in tmp_path.iterdir()] == ["vector"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_save_that_fails_leaves_the_old_vector_and_no_other_trace(
    failing: int, vector: TaskVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector.save(tmp_path / "vector")
    before = files_of(tmp_path)
    rename, calls = Path.replace, []

    def broken(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise OSError("no space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="no space"):
        (2 * vector).save(tmp_path / "vector")
    assert files_of(tmp_path) == before


def test_a_first_save_that_fails_leaves_nothing(
    vector: TaskVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    for owner, name in ((Path, "replace"), (storage, "write_whole")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(OSError, match="no space"):
                vector.save(tmp_path / "vector")
        assert not list(tmp_path.iterdir())


def test_nothing_has_the_vectors_name_before_it_is_whole(
    vector: TaskVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, seen = Path.replace, []

    def watched(path: Path, target: Path) -> Path:
        if path.is_dir():
            seen.append((target.exists(), {p.name for p in path.iterdir()}))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    vector.save(tmp_path / "vector")
    assert seen == [(False, {"vector.safetensors", "config.json"})]


def test_an_old_vector_left_by_a_cut_off_save_is_pointed_out(
    vector: TaskVector, tmp_path: Path
) -> None:
    vector.save(tmp_path / ".vector.1234abcd.old")
    with pytest.raises(DataError, match=r"cut off.*\.vector\.1234abcd\.old"):
        TaskVector.load(tmp_path / "vector")


def test_what_is_not_a_vector_is_not_overwritten(vector: TaskVector, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("text")
    vector.save(tmp_path / "noted")
    (tmp_path / "noted" / "notes.txt").write_text("text")
    before = files_of(tmp_path)
    for name, message in (
        ("file", "is a file, not a vector"),
        ("thesis", "a folder with chapter.txt, not a vector"),
        ("noted", "a folder with config.json, notes.txt"),
    ):
        with pytest.raises(DataError, match=message):
            vector.save(tmp_path / name)
    assert files_of(tmp_path) == before
    (tmp_path / "empty").mkdir()
    vector.save(tmp_path / "empty")
    assert TaskVector.load(tmp_path / "empty").sites == vector.sites


def test_an_origin_that_is_not_plain_data_is_refused_before_anything_is_written(
    vector: TaskVector, tmp_path: Path
) -> None:
    for scores in ({"accuracy": float("nan")}, {"accuracy": torch.tensor(1.0)}):
        bad = replace(vector, origin=replace(vector.origin, scores=scores))
        with pytest.raises(DataError, match="cannot be written as JSON"):
            bad.save(tmp_path / "vector")
    assert not list(tmp_path.iterdir())


def test_a_missing_vector_is_an_error(vector: TaskVector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no readable config\.json.*TaskVector\.save"):
        TaskVector.load(tmp_path / "nowhere")
    vector.save(tmp_path / "vector")
    (tmp_path / "vector" / "vector.safetensors").unlink()
    with pytest.raises(DataError, match=r"no readable vector\.safetensors"):
        TaskVector.load(tmp_path / "vector")


def test_changed_bytes_are_noticed(vector: TaskVector, tmp_path: Path) -> None:
    vector.save(tmp_path / "vector")
    path = tmp_path / "vector" / "vector.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-4], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"vector\.safetensors is damaged"):
            TaskVector.load(tmp_path / "vector")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"is of format 2, and this taskvectors reads format 1"),
        ({"format": None}, "is of format None"),
        ({"strength": 2.0}, r"strength: Extra inputs are not permitted"),
        ({"operation": "multiply"}, "operation: Input should be 'add', 'replace' or 'rotate'"),
        ({"sites": [{"layer": 1, "position": 1.5}]}, r"sites\.0\.position"),
        ({"sites": [{"layer": 1, "position": -1, "head": 3}]}, r"sites\.0\.head"),
        ({"sites": [{"layer": -2, "position": -1}]}, "there is no site"),
        ({"sites": [{"layer": 1, "position": -1}]}, "1 sites were given for 7 values"),
        ({"origin": {"author": "me"}}, r"origin\.author"),
        ({"origin": {"fingerprint": {"shapes": 3}}}, "shapes"),
        ({"sha256": "0"}, "damaged"),
    ],
)
def test_configs_are_not_read_by_guessing(
    change: dict[str, Any], message: str, vector: TaskVector, tmp_path: Path
) -> None:
    vector.save(tmp_path / "vector")
    path = tmp_path / "vector" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(DataError, match=message):
        TaskVector.load(tmp_path / "vector")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"format": 1}'])
def test_damaged_configs_are_errors(text: str, vector: TaskVector, tmp_path: Path) -> None:
    vector.save(tmp_path / "vector")
    (tmp_path / "vector" / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json is"):
        TaskVector.load(tmp_path / "vector")


@pytest.mark.parametrize(
    "tensors",
    [
        {"theta": torch.ones(7, 32)},
        {"values": torch.ones(7, 32).double()},
        {"values": torch.ones(7)},
        {"values": torch.ones(7, 32), "more": torch.ones(1)},
        None,
    ],
)
def test_other_tensors_are_errors(
    tensors: dict[str, torch.Tensor] | None, vector: TaskVector, tmp_path: Path
) -> None:
    import hashlib

    folder = tmp_path / "vector"
    vector.save(folder)
    if tensors is None:
        (folder / "vector.safetensors").write_bytes(b"a pickle, perhaps")
    else:
        save_file(tensors, folder / "vector.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw = (folder / "vector.safetensors").read_bytes()
    config["sha256"] = hashlib.sha256(raw).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"expected is float32 `values`|not a safetensors file"):
        TaskVector.load(folder)
