"""What heads' OV circuits and MLPs make of a vector, block by block."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from taskvectors.explain.shared.two_runs import INJECTED, two_runs
from taskvectors.models import LanguageModel, patch
from taskvectors.models.heads import Circuits, attention_scale, output_bias
from taskvectors.models.norms import linear_part, norm_weight
from taskvectors.models.path_patching import entering_mlp
from taskvectors.prompts import Prompt
from taskvectors.trunk import Edit, Trunk
from taskvectors.vectors import TaskVector

_ROWS = 32


def no_edit(model: LanguageModel, layers: range) -> Edit:
    """An edit that adds nothing, so that the branch is replayed from there on."""
    return Edit(layer=layers[0] - 1, value=torch.zeros(model.d_model))


def paper_terms(model: LanguageModel, vector: TaskVector, layers: range) -> Tensor:
    """W_O W_V diag(norm weight) θ, summed over a block's heads, as large together as θ."""
    theta = vector.values[0].to(model.device).float()
    terms = []
    for layer in layers:
        circuits, norm = Circuits.of(model, layer), model.attention_norm(layer)
        read = theta if norm is None else theta * norm_weight(norm)
        written = circuits.written(circuits.values(read))
        after = model.post_attention_norm(layer)
        terms.append(written if after is None else written * norm_weight(after))
    found = torch.stack(terms)
    length = found.sum(dim=0).norm()
    return found * (theta.norm() / length) if length > 0 else found


def scaled_terms(
    model: LanguageModel, vector: TaskVector, layers: range, prompts: Sequence[Prompt]
) -> Tensor:
    """Each block's W_O W_V D θ with the mean of the injected run's patterns and scales."""
    theta = vector.values[0].to(model.device).float()
    total = torch.zeros(len(layers), model.d_model, device=theta.device)
    for start in range(0, len(prompts), _ROWS):
        runs = two_runs(model, prompts[start : start + _ROWS], vector, layers)
        for number, block in enumerate(runs.blocks):
            circuits = Circuits.of(model, block.layer)
            state = block.entered[INJECTED]
            read = linear_part(model.attention_norm(block.layer), state, theta)
            own = block.pattern[INJECTED, :, :, -1].unsqueeze(-1)
            written = circuits.written(own * circuits.values(read))
            before = circuits.written(block.z[INJECTED]) + output_bias(model, block.layer)
            total[number] += (written * attention_scale(model, block.layer, before)).sum(dim=0)
    return total / len(prompts)


def mlp_terms(
    model: LanguageModel, vector: TaskVector, layers: range, prompts: Sequence[Prompt]
) -> Tensor:
    """Mean change of each block's MLP output when θ enters that MLP alone, in the plain run."""
    theta = vector.values[0].to(model.device)
    total = torch.zeros(len(layers), model.d_model, device=theta.device)
    for start in range(0, len(prompts), _ROWS):
        trunk = Trunk.build(model, prompts[start : start + _ROWS])
        plain = [no_edit(model, layers)]
        with torch.no_grad(), _kept_apart(model, layers, theta, total):
            trunk.run([plain, plain])
    return total / len(prompts)


@contextmanager
def _kept_apart(
    model: LanguageModel, layers: range, theta: Tensor, total: Tensor
) -> Iterator[None]:
    """θ enters each MLP of the second of two branches, and its effect is summed and taken out."""

    def take(number: int, written: Tensor) -> Tensor:
        plain, entered = written.view(2, -1, model.d_model)  # a token for each prompt
        total[number] += (entered - plain).float().sum(dim=0)
        return torch.cat([plain, plain]).view(written.shape)

    with ExitStack() as stack:
        added = torch.stack([torch.zeros_like(theta), theta])
        stack.enter_context(entering_mlp(model, layers, added))
        for number, layer in enumerate(layers):
            stack.enter_context(patch(model, layer, "mlp_out", partial(take, number)))
        yield
