"""Is the copy of the embedded model what it should be? It is known what it has to say."""

import torch

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import LanguageModel

_SENTENCE = "The capital of France is Paris."
_SENTENCE_IDS = (2, 818, 5279, 529, 7001, 563, 9079, 236761)
_SENTENCE_LOGPROB, _LOGPROB_TOLERANCE = -3.32, 0.5
"""Of the embedded model: mean over the tokens after BOS, in nats; -3.326 in float32, -3.321 in
bfloat16. With a wrong tokenizer it was -9.8."""


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
