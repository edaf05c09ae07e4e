"""What each head gives on average behind demonstrations: the material of all methods on heads.

A head's `z` is its output before W_O, its result what it adds to the residual stream: W_O z, times
the scale of the norm on attention's output where a family has one. That scale is each prompt's own,
so results are averaged as results and not made from the average z.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models.heads import head_results
from taskvectors.models.sites import check_site


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadMeans:
    """Means over few-shot prompts, at the last token; float32."""

    z: Float[Tensor, "layer head d_head"]
    results: Float[Tensor, "layer head d_model"]
    n_prompts: int
    forward_tokens: int
    seconds: float


def head_means(context: RunContext, most: int) -> HeadMeans:
    """Means over the first training prompts with the context's demonstrations; worked out once.

    Args:
        context: Model and task.
        most: Most prompts to average over.
    """
    return context.cached(("head means", most), lambda: _means(context, most))


def _means(context: RunContext, most: int) -> HeadMeans:
    model = context.model
    n_heads = model.n_heads  # raises where blocks have none, or other ones
    for layer in range(model.n_layers):
        check_site(model, layer, "z")
    read = context.last_tokens("train", context.shots, most)
    results = [head_results(model, layer, z).mean(dim=0) for layer, z in enumerate(read.z)]
    prompts = context.prompts("train", context.shots)[:most]
    return HeadMeans(
        z=rearrange(read.z.mean(dim=1), "layer (head d) -> layer head d", head=n_heads),
        results=torch.stack(results),
        n_prompts=len(prompts),
        forward_tokens=sum(len(prompt.token_ids) for prompt in prompts),
        seconds=read.seconds,
    )
