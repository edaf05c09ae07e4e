"""A plain checkpoint with the vector in its weights, which everything serves.

The vector is a bias on the last linear map of its blocks (`bias.py`). A model whose maps have a
bias gets another one; one whose config knows `mlp_bias` (Llama) gets it switched on, with zeros
wherever else that makes a bias.
"""

import copy
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskvectors.errors import DataError, UnsupportedModelError
from taskvectors.export.bias import biases_of, check_close, injected_logits
from taskvectors.models import LanguageModel, load_model
from taskvectors.models.trace import few_tokens
from taskvectors.vectors import TaskVector

_SWITCH = "mlp_bias"
"""The field of a config that gives an MLP's maps their biases."""
_WHAT = "a checkpoint"


def write_checkpoint(vector: TaskVector, model: LanguageModel, folder: Path) -> tuple[str, ...]:
    """Write the model with the vector baked in, and its tokenizer.

    Args:
        vector: A vector at every token.
        model: The model it was made for; it is not changed.
        folder: A new folder.

    Returns:
        What is to be known about it, in sentences.

    Raises:
        DataError: The folder is there.
        UnsupportedModelError: The family has no place for such a bias.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already; give a new folder")
    biases = biases_of(vector, model, _WHAT)
    state, config = _with_biases(model, biases)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        model.hf.save_pretrained(partial, state_dict=state)
        config.save_pretrained(partial)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(partial)
        _check_written(vector, model, partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return (
        f"it has the vector in the biases of {', '.join(biases)}, so it cannot be switched off",
        "it is for the licence and terms of the model, as the model itself is",
    )


def _with_biases(model: LanguageModel, biases: dict[str, Tensor]) -> tuple[dict[str, Tensor], Any]:
    """Weights with the biases in them, and the config that they fit."""
    state, config = dict(model.hf.state_dict()), copy.deepcopy(model.hf.config)
    missing = [path for path in biases if f"{path}.bias" not in state]
    if missing:
        inner = config.get_text_config()
        if getattr(inner, _SWITCH, None) is not False:
            raise UnsupportedModelError(
                f"{missing[0]} of {model.source} has no bias, and the family ({model.model_type}) "
                f"has no {_SWITCH} in its config to give it one; export it as peft instead"
            )
        setattr(inner, _SWITCH, True)
        with torch.device("meta"):
            grown = type(model.hf)(config).state_dict()
        for name in grown.keys() - state.keys():
            state[name] = torch.zeros(grown[name].shape, dtype=model.dtype)
    for path, value in biases.items():
        name = f"{path}.bias"
        before = state[name]
        state[name] = (before.float() + value.to(before.device)).to(before.dtype)
    return state, config


def _check_written(vector: TaskVector, model: LanguageModel, folder: Path) -> None:
    """Raise unless the checkpoint, read again, computes what the model does with the vector."""
    again = load_model(folder, model.tokenizer, dtype=model.dtype, device=str(model.device))
    with torch.inference_mode():
        logits = again.hf(input_ids=few_tokens(again.hf)).logits
    check_close(logits, injected_logits(vector, model), f"{_WHAT} of {model.source}")
