"""Devices, types and attention that are not there: one line that lists what is.

Run with `pytest tests/models/test_options.py`.
"""

from typing import Any

import pytest
import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.models import load_model, options


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "xpu:0", "gpu", "cpu:1", ""])
def test_a_device_that_is_not_there_is_refused(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_devices", lambda: ("cpu", "cuda:0"))
    with pytest.raises(TaskVectorsError, match=r"no device '.*' here; use one of cpu, cuda:0$"):
        load_model("random", device=device)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "float64", "int8", "half", torch.int64])
def test_a_type_that_is_not_there_is_refused(dtype: Any) -> None:
    with pytest.raises(TaskVectorsError, match=r"no dtype .*auto, bfloat16, float16, float32$"):
        load_model("random", dtype=dtype)


def test_a_type_of_torch_is_a_type() -> None:
    assert load_model("random", dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash", "spda", "flash_attention_9"])
def test_attention_that_is_not_there_is_refused(
    attention: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_attentions", lambda: ("eager", "sdpa"))
    model = load_model("random")
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(TaskVectorsError, match=r"no attention '.*' here; use one of eager, sdpa$"):
        load_model(str(tmp_path), attention=attention)


@pytest.mark.parametrize("kind", ["5bit", "int4", "fp8"])
def test_a_quantization_that_is_not_there_is_refused(kind: str) -> None:
    with pytest.raises(TaskVectorsError, match=r"no quantization .* 4bit, 8bit$"):
        options.quantization_config(kind)


def test_a_device_and_a_map_of_devices_are_two_answers() -> None:
    with pytest.raises(TaskVectorsError, match="device or device_map"):
        load_model("random", device="cpu", device_map="auto")
