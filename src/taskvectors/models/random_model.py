"""Small models with random weights, built from a config: to try a command out, in seconds.

Every part of them acts, so whatever runs on them runs; what they answer means nothing. The same
name is the same weights, on every machine.
"""

from functools import cache
from typing import Any

import torch

_TOKENS = 512
_SHAPE: dict[str, Any] = {
    "vocab_size": _TOKENS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2: dict[str, Any] = {
    "vocab_size": _TOKENS,
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
RANDOM_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("llama", _SHAPE),
    "random-gpt2": ("gpt2", _GPT2),
}
"""By the name that `load_model` takes: model type and config."""
_CORPUS = (
    "Q: What is the capital of France?\nA: Paris\n\nQ: Germany\nA: Berlin\n\nhot -> cold\n"
    "big -> small\nhouse -> maison\nred: rouge\nThe question is: The answer is true, maybe, false "
    "Sentiment: positive negative Type: Choices: (A) (B) Answer: yes no\n"
    "one two three four five six seven eight nine ten they have been with this that from there "
    "would about which their when were will more some them other than into time could only"
)
_NOTE = "random weights: what it answers means nothing"
_SPREAD = 0.2
"""Standard deviation of the weights: large enough for every part to act."""


def build_random(source: str, attention: str | None = None) -> tuple[Any, Any, str]:
    """The transformers model in float32, its tokenizer, and what to note about the weights.

    Args:
        source: One of `RANDOM_MODELS`.
        attention: transformers' attention implementation; its own choice by default.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    model_type, shape = RANDOM_MODELS[source]
    config = CONFIG_MAPPING[model_type](**shape)
    with torch.random.fork_rng():  # building draws weights that are then drawn anew
        hf: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32, attn_implementation=attention
        )
    generator = torch.Generator().manual_seed(0)
    for name, parameter in hf.named_parameters():
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, float(is_norm), _SPREAD, generator=generator)
    return hf, _tokenizer(), _NOTE


@cache
def _tokenizer() -> Any:
    """A byte-level BPE with BOS whose merges cover a few words: rare words are several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TOKENS,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_CORPUS] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    kind: Any = PreTrainedTokenizerFast
    return kind(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
    )
