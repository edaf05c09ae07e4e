"""`icv`: in-context vectors, the main direction from inputs to outputs, at every MLP and token.

Input and output of each training pair are read in the same place, as the input of a prompt. The
direction of their differences over all layers together turns what every MLP writes, and keeps its
length.
"""

import time
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from taskvectors.methods.shared.candidate import Candidate, Cost
from taskvectors.methods.shared.layers import Layers
from taskvectors.methods.shared.method import METHODS, Method, Paper, never
from taskvectors.methods.shared.plan import Plan, read_work
from taskvectors.methods.shared.run_context import RunContext
from taskvectors.models import EMBED
from taskvectors.models.sites import check_site
from taskvectors.tasks import Example
from taskvectors.trunk.work import as_much
from taskvectors.vectors import TaskVector, sites_at


class InContextVector(BaseModel):
    """The principal direction of H(output) - H(input), which turns the output of MLPs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    kind: Literal["icv"] = "icv"
    layers: Layers = None
    """Blocks whose MLP's output is rotated, together; all of them by default."""
    strengths: tuple[float, ...] = Field(default=(0.1, 0.8, 0.05, 0.2, 0.4), min_length=1)
    """λ to try, in units of the length of what is rotated; the best on validation is kept."""
    n_pairs: int = Field(default=100, ge=1)
    """Most training pairs to read."""


def icv(context: RunContext, config: InContextVector) -> list[Candidate]:
    """One candidate per strength.

    Raises:
        UnsupportedModelError: A layer has no MLP.

    Source: Liu et al. (2024), https://arxiv.org/abs/2311.06668, after their released code: the
        direction is the first principal component of the differences plus their mean. We differ:
        input and output are read at their last token in the place of a prompt's input, not as
        texts of their own behind a prefix; the embedding's row is dropped before the components
        are found, where the released code drops it afterwards; the component's sign is the mean's;
        the tokens of the prompt are rotated, those of the answer only where `answer` or `generated`
        is added to the vector; the strength is chosen on validation.
    """
    started = time.perf_counter()
    layers = range(context.model.n_layers) if config.layers is None else config.layers
    blocks = [EMBED if layer == "embed" else layer for layer in layers]
    for block in blocks:
        check_site(context.model, block, "mlp_out")
    inputs = context.prompts("train")[: config.n_pairs]
    swapped = [Example(input=one.query.output, output=one.query.input) for one in inputs]
    outputs = context.ask(swapped, 0)
    change = context.states(outputs, "query_last") - context.states(inputs, "query_last")
    direction = main_direction(change[1:].cpu())  # the embedding's row is dropped
    vector = TaskVector(
        values=torch.nn.functional.normalize(direction, dim=1)[blocks],
        sites=sites_at(blocks, ["all"], "mlp_out"),
        operation="rotate",
        origin=context.origin(config.kind, shots=0, settings={"n_pairs": len(inputs)}),
    )
    cost = Cost(
        examples=len(inputs),
        seconds=time.perf_counter() - started,
        forward_tokens=sum(len(prompt.token_ids) for prompt in (*inputs, *outputs)),
    )
    return [
        Candidate(
            method=config.kind,
            vector=vector,
            strength=strength,
            configuration=f"λ {strength:g}",
            cost=cost,
        )
        for strength in config.strengths
    ]


def main_direction(
    change: Float[Tensor, "layer prompt d_model"],
) -> Float[Tensor, "layer d_model"]:
    """The first principal component over all layers together, of length 1, plus the mean.

    Where all changes are the same there is no component, and the mean is all.
    """
    flat = rearrange(change, "layer prompt d_model -> prompt (layer d_model)")
    mean = flat.mean(dim=0)
    centred = flat - mean
    _, sizes, components = torch.linalg.svd(centred, full_matrices=False)
    first = components[0] * (1 if components[0] @ mean >= 0 else -1)
    has_spread = sizes[0] > torch.finfo(flat.dtype).eps * flat.norm()
    direction = mean + first if bool(has_spread) else mean
    return direction.view(change.shape[0], change.shape[2])


def _plan(context: RunContext, config: InContextVector) -> Plan:
    """The outputs, read in the place of inputs, are counted as long as these."""
    blocks = config.layers or (0,)
    first = min(-1 if block == "embed" else block for block in blocks)
    read = read_work(context, "train", 0, config.n_pairs)
    return Plan(
        found=(read, as_much(read, "reading outputs as inputs")),
        joins=(first - 1,),
        positions=("all",),
        strengths=config.strengths,
    )


METHODS.register(
    Method(
        config=InContextVector,
        find=icv,
        plan=_plan,
        title="In-context vector",
        summary="main direction from inputs to outputs, turns every MLP's output at every token",
        papers=(
            Paper(
                "Liu, Ye, Xing, Zou",
                2024,
                "In-context Vectors: Making In Context Learning More Effective and Controllable "
                "Through Latent Space Steering",
                "https://arxiv.org/abs/2311.06668",
            ),
        ),
        fails="It is made for rewriting: where the output is no text of the input's kind, the "
        "direction need not lead to an answer; large strengths destroy fluent text first.",
        quick={"n_pairs": 4, "strengths": (0.5,)},
        reads_shots=never,
    )
)
