"""Does the adapter read what it claims? Asked of every model when it is loaded.

Renamed or rewritten modules in a new version of transformers would otherwise show up as quietly wrong
results. The checks are three short forward passes.
"""

import torch
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import ADD_A_FAMILY, LanguageModel
from taskvectors.models.sites import reading, rewriting

_N_TOKENS = 6


def check_adapter(model: LanguageModel) -> None:
    """Check shapes, that the last residual stream gives the model's logits, and that edits act.

    Raises:
        UnsupportedModelError: One of these does not hold; the message says which.
    """
    tokens = torch.arange(3, 3 + _N_TOKENS, device=model.device).unsqueeze(0) % model.d_vocab
    heads: list[Tensor] = []
    final: list[Tensor] = []
    middle = model.n_layers // 2
    with (
        torch.inference_mode(),
        reading(model, middle, "z", heads.append),
        reading(model, model.n_layers - 1, "resid_post", final.append),
    ):
        plain = model.hf(input_ids=tokens).logits.float()
    if not heads or heads[0].shape[-1] != model.n_heads * model.d_head:
        _fail(model, f"z of block {middle} is not n_heads * d_head = {model.n_heads * model.d_head} wide")
    if not final or final[0].shape[-1] != model.d_model:
        _fail(model, f"the residual stream is not d_model = {model.d_model} wide")
    with torch.inference_mode():
        again = model.logits(final[0]).float()
    # the same operations in the same type: only the order of sums may differ
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.05
    scale = float(plain.abs().max()) + 1.0
    if float((again.to(plain.device) - plain).abs().max()) > tolerance * scale:
        _fail(model, "resid_post of the last block, normed and unembedded, is not the model's logits")
    with (
        torch.inference_mode(),
        rewriting(model, middle, "resid_post", lambda state: state * 0.5 + state.roll(1, -1)),
    ):
        edited = model.hf(input_ids=tokens).logits.float()
    if bool(torch.equal(edited, plain)):
        _fail(model, f"editing resid_post of block {middle} does not change the logits")


def _fail(model: LanguageModel, what: str) -> None:
    raise UnsupportedModelError(
        f"the adapter for {model.family.name} does not fit {model.source}: {what}. {ADD_A_FAMILY} says how "
        "a family is described."
    )
