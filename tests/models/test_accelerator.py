"""Models and learners on a device that mixes with nothing of the CPU's and has no float64.

Every method and analysis is run there in tests/methods/test_contract.py and
tests/explain/test_device.py. Run with `pytest tests/models/test_accelerator.py`.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from fake_device import OnDevice, fake_device, moved

import taskvectors as tv
from taskvectors.models.accelerator import first_device, free_bytes, seeded
from taskvectors.models.options import resolve_device, resolve_dtype
from taskvectors.vectors import Site, TaskVector


def test_the_device_fails_where_one_would() -> None:
    with fake_device():
        there = torch.zeros(3, device="mps")
        assert isinstance(there, OnDevice)
        with pytest.raises(RuntimeError, match="on one device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="float64"):
            there.double()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + 1 + torch.tensor(1.0)).cpu().double().tolist() == [2, 2, 2]


def test_mps_is_taken_where_there_is_no_gpu() -> None:
    assert first_device() in ("cpu", "cuda")
    with fake_device():
        assert resolve_device(None) == first_device() == "mps"
        assert resolve_dtype("auto", "mps") == torch.float32  # bfloat16 from macOS 14 on
        assert free_bytes(torch.device("mps")) <= 10**10 - 10**6


def test_random_states_are_as_before() -> None:
    before = torch.get_rng_state()
    with fake_device(), seeded(3, torch.device("mps")):
        drawn = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(3, torch.device("cpu")):
        assert torch.equal(torch.rand(2), drawn)


def test_what_is_written_there_is_what_the_cpu_writes(fresh_model: Any) -> None:
    plain, model = fresh_model("llama"), fresh_model("llama")
    vector = TaskVector(values=torch.ones(1, plain.d_model), sites=(Site(1, -1),))
    asked = {"prompt": "cold", "max_new_tokens": 4, "sample": True}
    expected = tv.generate(plain, vector, **asked)
    with fake_device():
        moved(model.hf)
        found = tv.generate(model, vector, **asked)
    assert found == expected


@pytest.mark.parametrize("family", ["offset", "linear"])
def test_learners_are_trained_and_measured_there(family: str, tmp_path: Path) -> None:
    settings = {"n_demonstrations": 3} | ({"n_symbols": 7} if family == "offset" else {})
    asked: dict[str, Any] = {
        "settings": settings, "seeds": [0], "tvp_layers": [0], "n_trials": 16, "steps": 4,
        "batch_size": 4, "n_layers": 2, "d_model": 8, "n_heads": 1, "tvp_from": 1,
    }  # fmt: skip
    expected = tv.train(family, device="cpu", out=tmp_path / "cpu", **asked)
    with fake_device():
        found = tv.train(family, device="mps", out=tmp_path / "mps", **asked)
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), rtol=1e-3)
