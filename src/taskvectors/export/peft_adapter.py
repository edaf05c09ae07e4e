"""A vector as an adapter of peft: BEFT, a bias beside a linear map.

Read by `PeftModel.from_pretrained`, it adds the vector; the model's own files stay as they are.
"""

import json
from pathlib import Path

from safetensors.torch import save as save_tensors
from torch import nn

from taskvectors.errors import DataError, UnsupportedModelError, require_package
from taskvectors.export.bias import biases_of, location_of
from taskvectors.files import write_whole
from taskvectors.models import LanguageModel
from taskvectors.vectors import TaskVector

_WHAT = "an adapter of peft"


def write_peft(vector: TaskVector, model: LanguageModel, folder: Path) -> tuple[str, ...]:
    """Write a vector as a BEFT adapter.

    Args:
        vector: A vector at every token.
        model: The model it was made for.
        folder: A new or empty folder.

    Returns:
        What is to be known about it, in sentences.

    Raises:
        DataError: The folder holds something.
        UnsupportedModelError: The maps are none that BEFT knows (GPT-2's), or a bias is not the
            vector in this model.
        TaskVectorsError: peft is not installed.

    Source: Bias-Efficient Fine-Tuning, https://arxiv.org/abs/2509.15974, as peft 0.21 implements
        it. We differ: the bias is on an MLP's last map and is not trained as one.
    """
    require_package("peft", "demo", "an adapter of peft")
    import peft

    if not hasattr(peft, "BeftConfig"):
        raise UnsupportedModelError(
            f"peft {peft.__version__} has no BEFT adapters; install peft 0.21 or newer"
        )
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; give a new folder")
    biases = biases_of(vector, model, _WHAT)
    for path in biases:
        if not isinstance(model.hf.get_submodule(path), nn.Linear):
            raise UnsupportedModelError(
                f"{path} of {model.source} is a {type(model.hf.get_submodule(path)).__name__}, and "
                "BEFT of peft takes torch's Linear only; export it as a checkpoint"
            )
    config = peft.BeftConfig(
        target_modules=list(biases),
        base_model_name_or_path=location_of(model),
        revision=None,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{path}.beft_bias": value[None].contiguous()
        for path, value in biases.items()
    }
    about = config.to_dict() | {"target_modules": sorted(biases)}
    text = json.dumps(about | {"peft_version": peft.__version__}, indent=2, default=str)
    write_whole(folder / "adapter_model.safetensors", save_tensors(tensors, {"format": "pt"}))
    write_whole(folder / "adapter_config.json", text + "\n")
    return (
        "read it with PeftModel.from_pretrained(model, folder); it cannot be merged where the maps "
        "have no bias",
    )
