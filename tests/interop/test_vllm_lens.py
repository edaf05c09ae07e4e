"""vllm-lens's own reader on what `export --format vllm-lens` writes.

Run with `make interop`. vLLM is not started here; see `test_vllm.py`.
"""

import json
from pathlib import Path

import pytest
import torch

from taskvectors.export import write_vllm_lens
from taskvectors.export.vllm_lens import steering_vectors
from taskvectors.vectors import TaskVector, sites_at

types = pytest.importorskip("vllm_lens._helpers.types", reason="make interop installs vllm-lens")


def vector_at(*positions: int | str) -> TaskVector:
    values = torch.arange(12.0).view(2, 6) if len(set(positions)) == 2 else torch.ones(1, 6)
    return TaskVector(values=values, sites=sites_at([3], positions))


def test_it_reads_layers_positions_and_values(tmp_path: Path) -> None:
    everywhere = TaskVector(values=torch.ones(2, 6), sites=sites_at([3], ["all", "generated"]))
    write_vllm_lens(everywhere, tmp_path / "all.json")
    (one,) = json.loads((tmp_path / "all.json").read_text())
    read = types.SteeringVector.model_validate(one)
    assert torch.equal(read.activations, torch.ones(1, 6))
    assert (read.layer_indices, read.position_indices) == ([3], None)
    vector = vector_at(-1, 0)
    (one,) = steering_vectors(vector, 9)
    read = types.SteeringVector.model_validate(one)
    assert torch.equal(read.activations[0], vector.values)
    assert (read.position_indices, read.scale, read.norm_match) == ([8, 0], 1.0, False)


def test_it_refuses_positions_that_were_not_finished() -> None:
    (one,) = steering_vectors(vector_at(-1))
    with pytest.raises(ValueError, match="position_indices"):
        types.SteeringVector.model_validate(one)
