"""Norms as linear maps: what a norm makes of a part of a state, its statistics held fixed.

A norm divides by a statistic of the whole state. With the statistic of one run held fixed it is a
linear map, and so says what each part of the residual stream contributes. A norm's bias belongs to
no part and is left out.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.block_parts import is_linear
from taskvectors.models.language_model import LanguageModel

_EPSILONS = ("eps", "variance_epsilon")


def linear_part(
    norm: nn.Module | None,
    state: Float[Tensor, "... d_model"],
    part: Float[Tensor, "... d_model"],
) -> Float[Tensor, "... d_model"]:
    """What a norm makes of a part, with the statistics of a state; float32.

    The norm of a state is `linear_part(norm, state, state)` plus the norm's bias.

    Args:
        norm: A layer norm or a root-mean-square norm; None leaves the part as it is.
        state: The whole state of the run whose statistics hold.
        part: What is mapped; its leading axes broadcast with those of the state.
    """
    state, part = state.float(), part.float()
    if norm is None:
        return part
    epsilon = next(getattr(norm, name) for name in _EPSILONS if hasattr(norm, name))
    if isinstance(norm, nn.LayerNorm):
        variance = state.var(dim=-1, keepdim=True, unbiased=False)
        part = part - part.mean(dim=-1, keepdim=True)
        mapped = part * torch.rsqrt(variance + epsilon)
    else:
        mapped = part * torch.rsqrt(state.square().mean(dim=-1, keepdim=True) + epsilon)
    scaled: Tensor = mapped * norm_weight(norm)
    return scaled


def norm_weight(norm: nn.Module) -> Float[Tensor, " d_model"]:
    """What a norm multiplies each coordinate with, in float32.

    RMS norms store it as w or as w - 1; what they make of ones tells either way.
    """
    weight: Tensor = norm.weight  # type: ignore[assignment]
    if isinstance(norm, nn.LayerNorm):
        return weight.float()
    epsilon = next(getattr(norm, name) for name in _EPSILONS if hasattr(norm, name))
    with torch.no_grad():
        made: Tensor = norm(torch.ones(weight.shape, device=weight.device)).float()
    scaled: Tensor = made * (1 + epsilon) ** 0.5
    return scaled


def final_linear_part(
    model: LanguageModel,
    state: Float[Tensor, "... d_model"],
    part: Float[Tensor, "... d_model"],
) -> Float[Tensor, "... d_state"]:
    """What of a part of the last residual stream reaches the unembedding; see `linear_part`.

    Args:
        model: The model.
        state: `resid_post` of the last block, in the run whose statistics hold.
        part: A part of it, or of another run's.
    """
    norms = [module for module in model.final_modules if not is_linear(module)]
    projections = [module for module in model.final_modules if is_linear(module)]
    if max(len(norms), len(projections)) > 1 or model.structure.n_streams > 1:
        raise UnsupportedModelError(
            f"between the last block of {model.source} and its unembedding lie more than a norm "
            "and a projection, so no part of a state has a share of the logits of its own."
        )
    mapped = linear_part(norms[0] if norms else None, state, part)
    scale = model.structure.state_scale * model.structure.logit_scale
    mapped = mapped if scale == 1 else mapped * scale
    if not projections:
        return mapped
    (projection,) = projections
    with torch.no_grad():
        projected: Tensor = projection(mapped.to(model.dtype)) - projection(
            torch.zeros_like(mapped[..., :1, :], dtype=model.dtype)
        )
    return projected.float()
