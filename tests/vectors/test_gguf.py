"""Control vectors in GGUF files: the format as repeng writes it, and what is refused.

Run with `pytest tests/vectors/test_gguf.py`.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taskvectors.errors import DataError, TaskVectorsError
from taskvectors.vectors import (
    Site,
    TaskVector,
    VectorOrigin,
    inject,
    read_function_vector,
    read_gguf,
    sites_at,
    write_gguf,
)

gguf = pytest.importorskip("gguf")

EVERYWHERE = ["all", "generated"]


def vector_at(sites: tuple[Site, ...], values: Any = None, **about: Any) -> TaskVector:
    if values is None:
        # one value a layer, whatever the positions
        layers = [site.place[0] for site in sites]
        values = torch.stack([torch.arange(6.0) + 10 * layer for layer in layers])
    origin = VectorOrigin(method="vanilla", task="capital", family="llama")
    return TaskVector(values=values, sites=sites, **{"origin": origin} | about)


def written_by_repeng(path: Path, directions: dict[str, Any], arch: str = "controlvector") -> None:
    """The steps of its writer."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_string(f"{arch}.model_hint", "mistral")
    writer.add_uint32(f"{arch}.layer_count", len(directions))
    for name, value in directions.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_written_file_is_what_repeng_and_llama_cpp_expect(tmp_path: Path) -> None:
    vector = vector_at(sites_at([2, 1], EVERYWHERE))
    told = write_gguf(vector, tmp_path / "v.gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "controlvector"
    assert keys["controlvector.model_hint"] == "llama"
    assert keys["controlvector.layer_count"] == 2  # of directions, not of the model's layers
    count = reader.fields["controlvector.layer_count"]
    assert count.types == [gguf.GGUFValueType.UINT32]
    # nothing but directions, or llama.cpp refuses the file
    assert {tensor.name for tensor in reader.tensors} == {"direction.1", "direction.2"}
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert list(tensor.shape) == [6]
        layer = int(tensor.name[-1])
        np.testing.assert_array_equal(tensor.data, np.arange(6.0) + 10 * layer)
    assert keys["controlvector.positions"] == '["all", "generated"]'
    assert any("every token" in note for note in told)
    assert not list(tmp_path.glob(".*"))


def test_a_vector_comes_back_as_it_was(tmp_path: Path) -> None:
    vector = vector_at(sites_at([1, 3], EVERYWHERE))
    write_gguf(vector, tmp_path / "v.gguf")
    for again in (read_gguf(tmp_path / "v.gguf"), TaskVector.load(tmp_path / "v.gguf")):
        assert again.sites == vector.sites
        torch.testing.assert_close(again.values, vector.values)
        assert (again.origin.method, again.origin.task) == ("vanilla", "capital")
        assert again.origin.family == "llama"


def test_a_file_of_repeng_is_added_to_block_outputs_at_every_token(
    tmp_path: Path, tiny_model: Any, ragged_prompts: Any, by_hand: Any
) -> None:
    model = tiny_model("mistral")
    generator = torch.Generator().manual_seed(0)
    values = {layer: torch.randn(model.d_model, generator=generator) for layer in (1, 3)}
    path = tmp_path / "theirs.gguf"
    written_by_repeng(path, {f"direction.{n}": v.numpy() for n, v in values.items()})
    vector = read_gguf(path)
    vector.check_model(model)
    assert vector.origin.family == "mistral"
    tokens = ragged_prompts(model, 1)[0].token_ids
    expected = by_hand(
        model,
        tokens,
        len(tokens),
        vector_at(sites_at([1, 3], ["all"]), torch.stack(list(values.values()))),
    )
    with torch.no_grad(), inject(model, vector):
        found = model.hf.generate(
            torch.tensor([tokens]), max_new_tokens=3, do_sample=False, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
    torch.testing.assert_close(found.logits[0][0], expected[-1], atol=1e-4, rtol=1e-4)
    # and what is generated goes on as if all of it were prompt
    whole = found.sequences[0, : len(tokens) + 1].tolist()
    expected = by_hand(
        model,
        whole,
        len(whole),
        vector_at(sites_at([1, 3], ["all"]), torch.stack(list(values.values()))),
    )
    torch.testing.assert_close(found.logits[1][0], expected[-1], atol=1e-4, rtol=1e-4)


def test_the_input_of_a_block_is_the_output_of_the_one_before(tmp_path: Path) -> None:
    vector = vector_at(sites_at([3], EVERYWHERE, "resid_pre"))
    write_gguf(vector, tmp_path / "v.gguf")
    assert read_gguf(tmp_path / "v.gguf").layers == (2,)


@pytest.mark.parametrize("positions", [[-1], ["all"], ["last", "generated"], [4, "all"]])
def test_a_vector_at_some_tokens_is_refused_unless_it_is_forced(
    tmp_path: Path, positions: list[int | str]
) -> None:
    vector = vector_at(sites_at([2], positions))
    with pytest.raises(TaskVectorsError, match=r"it would be another vector.*--force"):
        write_gguf(vector, tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())
    told = write_gguf(vector, tmp_path / "v.gguf", force=True)
    assert "by force" in told[0]
    again = read_gguf(tmp_path / "v.gguf")
    assert again.positions == ("all", "generated")
    assert any("made for positions" in note for note in again.origin.notes)


CANNOT: dict[str, tuple[TaskVector, str]] = {
    "block 0": (vector_at(sites_at([0, 1], EVERYWHERE)), "blocks 1 and up"),
    "embed": (vector_at(sites_at([-1], EVERYWHERE)), "blocks 1 and up"),
    "the input of block 1": (vector_at(sites_at([1], EVERYWHERE, "resid_pre")), "blocks 1 and up"),
    "mlp": (vector_at(sites_at([2], EVERYWHERE, "mlp_out")), "blocks 1 and up"),
    "replaces": (vector_at(sites_at([2], EVERYWHERE), operation="replace"), "only adds"),
    "turns": (vector_at(sites_at([2], EVERYWHERE), operation="rotate"), "only adds"),
    "two values": (
        vector_at(sites_at([2], EVERYWHERE), torch.arange(12.0).view(2, 6)),
        "several different values at layer 2",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_no_control_vector_can_be_is_refused_even_with_force(
    tmp_path: Path, case: str
) -> None:
    vector, message = CANNOT[case]
    for force in (False, True):
        with pytest.raises(TaskVectorsError, match=message):
            write_gguf(vector, tmp_path / "v.gguf", force=force)
    assert not list(tmp_path.iterdir())


def test_a_file_with_another_architecture_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written_by_repeng(tmp_path / "v.gguf", {"direction.2": np.ones(4, dtype=np.float32)}, "llama")
    with caplog.at_level(logging.WARNING):
        assert read_gguf(tmp_path / "v.gguf").layers == (2,)
    assert "'llama'" in caplog.text


BROKEN: dict[str, dict[str, Any]] = {
    "no tensor direction": {"token_embd.weight": np.ones((3, 4), dtype=np.float32)},
    "not one line of float32": {"direction.1": np.ones((2, 4), dtype=np.float32)},
    "not one line of float32 numbers": {"direction.1": np.ones(4, dtype=np.float16)},
    "no usable control vector": {
        "direction.1": np.ones(4, dtype=np.float32), "direction.2": np.ones(5, dtype=np.float32),
    },
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_a_file_that_is_no_control_vector_is_an_error(tmp_path: Path, message: str) -> None:
    written_by_repeng(tmp_path / "v.gguf", BROKEN[message])
    with pytest.raises(DataError, match=message):
        read_gguf(tmp_path / "v.gguf")


def test_no_file_and_half_a_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        TaskVector.load(tmp_path / "v.gguf")
    (tmp_path / "v.gguf").write_bytes(b"GGUF\x03\x00\x00\x00half")
    with pytest.raises(DataError, match="not a whole GGUF file"):
        TaskVector.load(tmp_path / "v.gguf")


# --- the function-vector repository


@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_a_function_vector_is_added_at_the_last_token(tmp_path: Path, shape: Any) -> None:
    value = torch.randn(shape, dtype=torch.float16)
    torch.save(value, tmp_path / "antonym_function_vector.pt")
    vector = read_function_vector(tmp_path / "antonym_function_vector.pt", layer=9)
    assert vector.sites == sites_at([9], [-1])
    assert vector.operation == "add"
    torch.testing.assert_close(vector.values, value.float().view(1, 6))
    assert vector.origin.notes == ("read from antonym_function_vector.pt",)


class _Code:
    """What a pickle can do when it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def test_a_file_that_would_run_code_is_refused_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(_Code(), tmp_path / "v.pt")
    with pytest.raises(DataError, match="not a file of tensors and plain values alone"):
        read_function_vector(tmp_path / "v.pt", layer=9)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (torch.randn(3, 2, 4, 5), r"holds \[3, 2, 4, 5\]"),
        (torch.randn(2, 6), r"holds \[2, 6\]"),
        ({"vector": torch.ones(6)}, "holds dict"),
        (torch.arange(6), "holds"),
    ],
)
def test_other_files_of_that_repository_are_refused(
    tmp_path: Path, held: Any, message: str
) -> None:
    torch.save(held, tmp_path / "v.pt")
    with pytest.raises(DataError, match=message):
        read_function_vector(tmp_path / "v.pt", layer=9)


def test_a_missing_or_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_function_vector(tmp_path / "v.pt", layer=9)
    (tmp_path / "v.pt").write_bytes(b"half")
    with pytest.raises(DataError, match="not a file of tensors"):
        read_function_vector(tmp_path / "v.pt", layer=9)


def test_a_vector_without_a_family_has_a_hint_for_repeng_and_none_when_read(tmp_path: Path) -> None:
    vector = vector_at(sites_at([1], EVERYWHERE), origin=VectorOrigin(method="vanilla"))
    write_gguf(vector, tmp_path / "v.gguf")
    assert gguf.GGUFReader(tmp_path / "v.gguf").get_field("controlvector.model_hint") is not None
    assert read_gguf(tmp_path / "v.gguf").origin.family == ""
