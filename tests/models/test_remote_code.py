"""Models that come with code of their own: never run unless asked for.

Run with `pytest tests/models/test_remote_code.py`.
"""

import json
from pathlib import Path

import pytest
import torch

from taskvectors.cli import main
from taskvectors.errors import TaskVectorsError
from taskvectors.models import load_meta_model, load_model
from taskvectors.models.random_model import build_random

MODELING = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(__file__)
Path({mark!r}).write_text("run")


class StrangeConfig(LlamaConfig):
    model_type = "strange"


class StrangeForCausalLM(LlamaForCausalLM):
    config_class = StrangeConfig
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose class is in a file of its own, which leaves a mark when it is run."""
    from transformers import dynamic_module_utils

    modules = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    hf, tokenizer, _ = build_random("random")
    folder = tmp_path / "strange"
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "architectures": ["StrangeForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_strange.StrangeConfig",
            "AutoModelForCausalLM": "modeling_strange.StrangeForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_strange.py").write_text(MODELING.format(mark=str(tmp_path / "mark")))
    return folder


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    with pytest.raises(TaskVectorsError, match=r"code of its own.*--trust-remote-code"):
        load_model(folder)
    assert not (folder.parent / "mark").exists()


def test_code_is_run_where_it_is_trusted(folder: Path) -> None:
    model = load_model(folder, dtype="float32", device="cpu", trust_remote_code=True)
    assert (folder.parent / "mark").exists()
    assert type(model.hf).__name__ == "StrangeForCausalLM"
    tokens = torch.tensor([[1, 5, 9]])
    expected = build_random("random")[0](input_ids=tokens).logits
    torch.testing.assert_close(model.hf(input_ids=tokens).logits, expected)


def test_a_model_without_weights_trusts_nobody_either(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "estimate",
        "learn",
        "--task",
        "capital",
        "--model",
        str(folder),
        "--device",
        "a100",
        "--json",
    ]
    assert main(words) == 2
    assert "--trust-remote-code" in capsys.readouterr().err
    with pytest.raises(TaskVectorsError, match=r"code of its own.*--trust-remote-code"):
        load_meta_model(str(folder))
    assert not (folder.parent / "mark").exists()
    assert main([*words, "--trust-remote-code"]) == 0
    trusted = load_meta_model(str(folder), trust_remote_code=True)
    assert type(trusted.hf).__name__ == "StrangeForCausalLM"
    assert trusted.device.type == "meta"


def test_the_command_line_trusts_nobody_and_passes_the_flag_on(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "extract", "--task", "capital", "--method", "vanilla", "--layers", "1",
        "--n-train", "20", "--n-validation", "8", "--n-test", "8",
        "--dtype", "float32", "--device", "cpu", "--model", str(folder),
        "--out", str(tmp_path / "v"),
    ]  # fmt: skip
    assert main(words) == 2
    assert "--trust-remote-code" in capsys.readouterr().err
    assert main([*words, "--trust-remote-code"]) == 0
