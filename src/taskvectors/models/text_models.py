"""The language model inside a multimodal one."""

from typing import Any


def text_model(hf: Any) -> Any:
    """The causal language model inside a multimodal one if it is whole by itself; else `hf`.

    Such a model has its own unembedding, and calls that bring text alone are calls of it. Hooks on
    it act in calls of the outer model too.

    Args:
        hf: A transformers model.
    """
    from transformers import PreTrainedModel

    if hf.config.get_text_config() is hf.config:
        return hf
    for inner in hf.children():
        if (
            isinstance(inner, PreTrainedModel)
            and not inner.config.is_encoder_decoder
            and inner.can_generate()
            and inner.get_output_embeddings() is not None  # type: ignore[no-untyped-call]
        ):
            return inner
    return hf
