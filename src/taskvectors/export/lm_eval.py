"""A vector for lm-eval's own model `steered`: a `.pt` file that names modules and what they add.

lm-eval adds at every position of what it is given, so only a vector at every token is the same.
"""

from pathlib import Path

import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.models import LanguageModel
from taskvectors.vectors import TaskVector, directions_everywhere


def write_lm_eval(vector: TaskVector, model: LanguageModel, path: Path) -> tuple[str, ...]:
    """Write a vector as the steering file of `lm_eval --model steered`.

    Args:
        vector: A vector at every token.
        model: The model it was made for, whose modules the file names.
        path: The file; lm-eval wants it to end in `.pt`. One that is there is replaced.

    Returns:
        What is to be known about it, in sentences.

    Raises:
        VectorMismatchError: It was made for another model.
        TaskVectorsError: It does not act at every token, or does not add to blocks' outputs.

    Source: the format of `lm_eval/models/hf_steered.py` of lm-eval 0.4.13.
    """
    if path.suffix not in (".pt", ".pth"):
        raise TaskVectorsError(f"{path.name}: lm-eval reads a file that ends in .pt; name it so")
    vector.check_model(model)
    names = {module: name for name, module in model.hf.base_model.named_modules()}
    steering = {
        names[model.blocks[layer]]: {
            "action": "add",
            "steering_vector": value.float().cpu().clone(),
            "steering_coefficient": 1.0,
            "head_index": None,
            "bias": None,
        }
        for layer, value in directions_everywhere(vector, "a file of lm-eval").items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda partial: torch.save(steering, partial))
    return (
        f"run it with lm_eval --model steered --model_args pretrained=MODEL,steer_path={path.name}",
    )
