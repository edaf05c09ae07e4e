"""A vector as requests of vLLM carry it, through the plugin vllm-lens.

One server holds the model, and each request brings its own vector, so that a batch may have many.
The file is the list that `apply_steering_vectors` takes. The plugin counts positions from a
prompt's start; one that is counted from its end can only be written when the prompt is known.
"""

import base64
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskvectors.errors import TaskVectorsError
from taskvectors.files import write_whole
from taskvectors.vectors import TaskVector, acts_everywhere, directions_of

FROM_END = "from_end"


def write_vllm_lens(vector: TaskVector, path: Path) -> tuple[str, ...]:
    """Write the steering vectors of a request.

    Args:
        vector: A vector that is added after blocks, at every token or at numbered prompt tokens.
        path: The JSON file; one that is there is replaced.

    Returns:
        What is to be known about it, in sentences.

    Raises:
        TaskVectorsError: The plugin cannot add such a vector; the message says why.

    Source: `SteeringVector` of vllm-lens 1.3.0, in its uncompressed form.
    """
    found = steering_vectors(vector)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=2) + "\n")
    told = ["give its content as apply_steering_vectors, in extra_args or vllm_xargs"]
    if any(isinstance(one["position_indices"], dict) for one in found):
        told.append(
            "its positions count from a prompt's end: write the numbers of each prompt's tokens "
            "into position_indices first; the plugin refuses the file as it is"
        )
    return tuple(told)


def steering_vectors(vector: TaskVector, n_tokens: int | None = None) -> list[dict[str, Any]]:
    """The steering vectors of a request, as JSON.

    Args:
        vector: A vector that is added after blocks.
        n_tokens: Tokens of the prompt; without it, positions from a prompt's end stay as they are,
            under `from_end`, which the plugin refuses.

    Raises:
        TaskVectorsError: The plugin cannot add such a vector.
    """
    if acts_everywhere(vector):
        directions = directions_of(vector, "a request of vllm-lens")
        values = torch.stack(list(directions.values()))
        return [_steering(values, list(directions), None)]
    by_layer: dict[int, dict[int, Tensor]] = {}
    for site, value in zip(vector.sites, vector.values, strict=True):
        layer, component, position = site.place
        if vector.operation != "add" or component != "resid_post" or layer < 0:
            raise TaskVectorsError(
                f"{vector.origin.label} has {site} ({vector.operation}), and vllm-lens adds after "
                "blocks only; make a vector that is added after a block"
            )
        if not isinstance(position, int):
            raise TaskVectorsError(
                f"{vector.origin.label} acts at {position!r}, and vllm-lens takes numbers of "
                "prompt tokens, or every token; make one at numbers, last, or at all and generated"
            )
        by_layer.setdefault(layer, {})[position] = value
    found = []
    for layer, held in by_layer.items():
        places: Any = list(held)
        if n_tokens is not None:
            places = [_from_start(place, n_tokens) for place in places]
        elif min(places) < 0:
            places = {FROM_END: places}
        found.append(_steering(torch.stack(list(held.values()))[None], [layer], places))
    return found


def _from_start(place: int, n_tokens: int) -> int:
    if not -n_tokens <= place < n_tokens:
        raise TaskVectorsError(
            f"the prompt has {n_tokens} tokens and no position {place}; give a longer prompt"
        )
    return place % n_tokens


def _steering(values: Tensor, layers: list[int], places: Any) -> dict[str, Any]:
    held = values.float().cpu().contiguous().numpy()
    return {
        "activations": {
            "data": base64.b64encode(held.tobytes()).decode("ascii"),
            "dtype": "float32",
            "original_dtype": "torch.float32",
            "shape": list(held.shape),
        },
        "layer_indices": layers,
        "scale": 1.0,
        "norm_match": False,
        "position_indices": places,
    }
