"""Every benchmark runs at its smallest, on small models and a device that is made up.

Run with `pytest tests/test_benchmarks.py`. Nothing here depends on what is measured.
"""

import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from costs.made_up import DEVICE

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALLEST: dict[str, tuple[str, ...]] = {
    "estimate": ("--rounds", "1", "--methods", "vanilla", "learned", "lora"),
    "explain": ("--rounds", "1"),
    "indirect_effect": ("--rounds", "1"),
    "layer_sweep": ("--rounds", "1"),
    "learn_step": ("--rounds", "1", "--dtype", "float32"),
    "load": (),
    "time_to_accuracy": (
        *("--rounds", "1", "--tasks", "capital"),
        *("--methods", "learned", "hooks", "lora"),
    ),
    "train_learner": ("--rounds", "1", "--steps", "1", "--sizes", "2x8"),
    "trunk_roof": ("--rounds", "1", "--threads", "1", "--shots", "1"),
}
LEAST_OF_A_SHAPE = {
    "vocab_size": 397, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture
def script(
    monkeypatch: pytest.MonkeyPatch, fresh_model: Callable[..., Any], tmp_path: Path
) -> Iterator[Callable[[str], Any]]:
    """`script(name)`: a benchmark as a module, whose models are all small."""
    import torch
    import transformers

    from taskvectors import models
    from taskvectors.costs import devices
    from taskvectors.models import loading, sources

    def embedded(source: str = "embedded", dtype: str = "float32") -> Any:
        del source
        model = fresh_model("gemma3_text")
        model.hf.to(torch.float32 if dtype == "auto" else getattr(torch, dtype))
        return model

    def files(*_: object) -> SimpleNamespace:
        model = embedded()
        model.hf.save_pretrained(tmp_path)
        model.tokenizer.save_pretrained(tmp_path)
        return SimpleNamespace(path=tmp_path)

    # transformers sets both names anew when the model's is first asked for
    _, llama = transformers.LlamaForCausalLM, transformers.LlamaConfig
    for place in (models, loading):
        monkeypatch.setattr(place, "load_model", embedded)
    monkeypatch.setattr(sources, "find_files", files)
    monkeypatch.setattr(devices, "measure_device", lambda *_: DEVICE)
    monkeypatch.setattr(
        transformers, "LlamaConfig", lambda **given: llama(**given | LEAST_OF_A_SHAPE)
    )
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.syspath_prepend(str(FOLDER))
    for path in FOLDER.glob("*.py"):  # folders of these tests have the same names
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    yield importlib.import_module
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_each_benchmark_is_run_here() -> None:
    assert {path.stem for path in FOLDER.glob("[!_]*.py")} == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_prints_rows_with_a_ratio(
    name: str,
    script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = script(name)
    if name == "layer_sweep":
        monkeypatch.setattr(module, "Side", in_this_process(module, monkeypatch))
    if name in ("explain", "indirect_effect"):
        monkeypatch.setattr(module, "SHOTS", 1)
        monkeypatch.setattr(sys.modules["_head_by_head"], "_N_SAMPLED", 5)
        for place in (module, sys.modules["_head_by_head"]):
            monkeypatch.setattr(place, "N_PROMPTS", 3)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--json", *SMALLEST[name]])
    # those on heads share one `main`, which is given what differs
    given = (module.__doc__, module.SHOTS, module.prepared) if hasattr(module, "prepared") else ()
    module.main(*given)
    rows = json.loads(capsys.readouterr().out)["rows"]
    of = "faster_eager" if name == "train_learner" else "ratio"
    assert all(row[of] > 0 for row in (rows[-2:] if name == "load" else rows))


def in_this_process(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A side that makes its steps in this process, all at once."""

    class Here(module.Side):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            written = io.StringIO()
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", io.StringIO("step\n" * 3))
                patch.setattr(sys, "stdout", written)
                module.run_side(name)
            self.lines = written.getvalue().splitlines()
            self.n_layers = int(self.read())

        def read(self) -> str:
            return str(self.lines.pop(0))

        def seconds(self) -> float:
            return float(self.read())

        def peak(self) -> int:
            return max(1, int(self.lines[-1]))

    return Here
