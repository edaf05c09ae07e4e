"""d_NTP: how far a run's next-token distribution is from that of in-context learning."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models import LanguageModel
from taskvectors.models.tensors import require_finite


def next_token_divergence(
    model: LanguageModel,
    shown: Float[Tensor, "prompt d_model"],
    edited: Float[Tensor, "prompt d_model"],
    tokens: Int[Tensor, " label"],
) -> float:
    """Mean over prompts of KL(P_ICL || P_edited) where the answer begins, over some tokens.

    Args:
        model: The model.
        shown: Final residual streams at the last token of few-shot prompts.
        edited: The same of the run that is measured, for the same queries.
        tokens: First tokens of the task's labels; both distributions are over these alone.

    Returns:
        In nats; 0 where the two agree.

    Source: Kwon et al. (2026), https://arxiv.org/abs/2605.20730, as in their code over the logits
        of label tokens. We differ: with labels of several tokens, their first ones.
    """
    whole = model.unembedding
    rows = tokens.to(whole.weight.device)
    part = replace(
        whole,
        weight=whole.weight[rows],
        bias=None if whole.bias is None else whole.bias[rows],
    )
    with torch.no_grad():
        icl, ours = (
            part.logits(model.final_state(states.to(model.device, model.dtype))).float()
            for states in (shown, edited)
        )
    require_finite(torch.stack([icl, ours]), "logits of labels")
    expected, found = icl.log_softmax(dim=1), ours.log_softmax(dim=1)
    return float((expected.exp() * (expected - found)).sum(dim=1).mean())
