"""How large the experiments on language models are, by preset."""

from typing import Any

from taskvectors.experiments.config import ModelConfig
from taskvectors.experiments.experiment import PRESETS, Preset, PresetName

_BASES: dict[PresetName, Preset] = {
    "smoke": Preset(
        models=(ModelConfig(source="random", dtype="float32"),),
        tasks=("capital",),
        shots=2,
        n_train=16,
        n_validation=6,
        n_test=8,
        steps=2,
        limit=6,
    ),
    "cpu": Preset(
        models=(ModelConfig(),),
        tasks=("capital", "antonym"),
        n_train=200,
        n_validation=40,
        n_test=100,
        steps=60,
        limit=40,
    ),
    # Yang et al. 2026: layer 16 of 32, eight shots; 600 training and 400 validation queries and the
    # paper's seven data sets. Five seeds are ours, and so is the number of test queries
    "paper": Preset(
        models=(ModelConfig(source="meta-llama/Llama-3.1-8B"),),
        tasks=(
            "capital", "capitalize", "antonym", "hub:sst2", "hub:trec", "hub:snli", "hub:rte",
        ),
        seeds=(0, 1, 2, 3, 4),
        n_train=600,
        n_validation=400,
        n_test=400,
        steps=200,
    ),
}  # fmt: skip


def presets(
    smoke: dict[str, Any] | None = None,
    cpu: dict[str, Any] | None = None,
    paper: dict[str, Any] | None = None,
) -> dict[PresetName, Preset]:
    """Presets of an experiment on language models: the common ones, with some fields changed."""
    changes: dict[str, dict[str, Any] | None] = {"smoke": smoke, "cpu": cpu, "paper": paper}
    return {name: Preset(**_BASES[name].model_dump() | (changes[name] or {})) for name in PRESETS}
