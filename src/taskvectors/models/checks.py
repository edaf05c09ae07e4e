"""Does the adapter read what it claims? Asked of every model when it is loaded.

Renamed or rewritten modules in a new version of transformers would otherwise show up as quietly
wrong results. The checks are two short forward passes, and a third for the embedded model, of which
it is known what it has to say.
"""

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import ADD_A_FAMILY, LanguageModel
from taskvectors.models.sites import Component, capture, patch, width_of

_N_TOKENS = 6
_PARTS: tuple[Component, ...] = ("resid_pre", "attn_out", "mlp_out", "z", "resid_post")


_SENTENCE = "The capital of France is Paris."
_SENTENCE_IDS = (2, 818, 5279, 529, 7001, 563, 9079, 236761)
_SENTENCE_LOGPROB, _LOGPROB_TOLERANCE = -3.32, 0.5
"""Of the embedded model: mean over the tokens after BOS, in nats; -3.326 in float32, -3.321 in
bfloat16. With a wrong tokenizer it was -9.8."""


def check_adapter(model: LanguageModel) -> None:
    """Check shapes, that parts add up, that the last state gives the logits, that edits act.

    Raises:
        UnsupportedModelError: One of these does not hold; the message says which.
    """
    tokens = torch.arange(3, 3 + _N_TOKENS, device=model.device).unsqueeze(0) % model.d_vocab
    middle = model.n_layers // 2
    read: dict[str, Tensor] = {}
    with torch.inference_mode(), ExitStack() as stack:
        for component in _PARTS:
            stack.enter_context(
                capture(model, middle, component, partial(read.__setitem__, component))
            )
        keep = partial(read.__setitem__, "final")
        stack.enter_context(capture(model, model.n_layers - 1, "resid_post", keep))
        plain = model.hf(input_ids=tokens).logits.float()
    _check_block(model, middle, read)
    _check_logits(model, read["final"], plain)
    with (
        torch.inference_mode(),
        patch(model, middle, "resid_post", lambda state: state * 0.5 + state.roll(1, -1)),
    ):
        edited = model.hf(input_ids=tokens).logits.float()
    if bool(torch.equal(edited, plain)):
        _fail(model, f"editing resid_post of block {middle} does not change the logits")


def check_embedded(model: LanguageModel, folder: str) -> None:
    """Check that the copy of the embedded model has its tokenizer and its weights.

    Args:
        model: The model.
        folder: Where the copy lies.

    Raises:
        UnsupportedModelError: One sentence has other tokens, or another probability, than it has.
    """
    advice = (
        f"the copy of the embedded model in {folder} is not what it should be: {{}}. Delete that "
        "folder, and it is made again; if that does not help, another version of transformers may."
    )
    ids = tuple(model.tokenizer(_SENTENCE)["input_ids"])
    if ids != _SENTENCE_IDS:
        raise UnsupportedModelError(
            advice.format(f"{_SENTENCE!r} becomes the tokens {ids}, expected are {_SENTENCE_IDS}")
        )
    tokens = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        logits = model.hf(input_ids=tokens).logits[0, :-1].float()
    answers = tokens[0, 1:].to(logits.device).unsqueeze(1)
    found = float(logits.log_softmax(dim=-1).gather(1, answers).mean())
    if not abs(found - _SENTENCE_LOGPROB) <= _LOGPROB_TOLERANCE:
        raise UnsupportedModelError(
            advice.format(
                f"the mean log-probability of {_SENTENCE!r} is {found:.2f}, expected is "
                f"{_SENTENCE_LOGPROB} to within {_LOGPROB_TOLERANCE}"
            )
        )


def _check_block(model: LanguageModel, layer: int, read: dict[str, Tensor]) -> None:
    for component in _PARTS:
        if component not in read:
            _fail(model, f"{component} of block {layer} is never computed")
        width = width_of(model, component)
        if read[component].shape[-1] != width:
            what = "n_heads * d_head" if component == "z" else "d_model"
            _fail(model, f"{component} of block {layer} is not {what} = {width} wide")
    if model.is_post_norm:
        return
    total = read["resid_pre"] + read["attn_out"] + read["mlp_out"]
    if not _is_close(model, total, read["resid_post"]):
        _fail(
            model, f"resid_pre, attn_out and mlp_out of block {layer} do not add up to resid_post"
        )


def _check_logits(model: LanguageModel, final: Tensor, plain: Tensor) -> None:
    with torch.inference_mode():
        state = model.final_state(final)
        width = model.unembedding.weight.shape[1]
        if state.shape[-1] != width:
            _fail(model, f"the final state is not {width} wide, as the unembedding expects")
        again = model.unembedding.logits(state)
    if not _is_close(model, again, plain):
        _fail(
            model, "resid_post of the last block, normed and unembedded, is not the model's logits"
        )


def _is_close(model: LanguageModel, found: Tensor, expected: Tensor) -> bool:
    # the same operations in the same type: only the order of sums may differ
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.05
    difference = (found.to(expected.device).float() - expected.float()).abs().max()
    return bool(difference <= tolerance * (expected.float().abs().max() + 1.0))


def _fail(model: LanguageModel, what: str) -> None:
    raise UnsupportedModelError(
        f"the adapter for {model.family.name} does not fit {model.source}: {what}. {ADD_A_FAMILY} "
        "says how "
        "a family is described."
    )
