"""Small random models, a tokenizer and prompts that all tests share; nothing is downloaded.

Models are built from their configs, once per process, and are never to be changed: a test that
breaks one asks for a `fresh_model`. torch is imported when a fixture needs it, so that tests of
data and reports stay quick.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from newer_types import config_of

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile(
    "taskvectors",
    deadline=None,  # nothing depends on wall time
    derandomize=True,
    max_examples=20,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("taskvectors")

D_VOCAB = 397
"""Prime, so that no slice of the vocabulary fits; and more tokens than the tokenizer has."""
N_LAYERS = 4

_SHAPE = {
    "vocab_size": D_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# two query heads share a key-value head, and the heads are wider together than the residual stream
_GROUPED = _SHAPE | {"num_key_value_heads": 2, "head_dim": 12}
_ALTERNATING = ["sliding_attention", "full_attention"] * (N_LAYERS // 2)
_GPT2 = {key: _SHAPE[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
_OPT = {key: value for key, value in _SHAPE.items() if key != "intermediate_size"} | {"ffn_dim": 48}

# windows of 6 are shorter than the prompts; soft-caps are low enough to bend the scores and logits
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "llama-biased": _GROUPED | {"attention_bias": True, "mlp_bias": True},
    "mistral": _GROUPED | {"sliding_window": 6},
    "qwen2": _GROUPED
    | {"use_sliding_window": True, "sliding_window": 6, "layer_types": _ALTERNATING},
    "qwen3": _GROUPED,
    "gemma2": _GROUPED
    | {
        "sliding_window": 6,
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "tie_word_embeddings": True,
    },
    "gemma3_text": _GROUPED
    | {
        "sliding_window": 6,
        "query_pre_attn_scalar": 12,
        "layer_types": _ALTERNATING,
        "tie_word_embeddings": True,
    },
    "gpt2": _GPT2 | {"n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 512},
    "gpt_neox": _SHAPE,
    "gpt_neox-sequential": _SHAPE | {"use_parallel_residual": False},
    "opt": _OPT,
    "opt-projected": _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "phi3": _GROUPED | {"sliding_window": 6},
    "olmo2": _GROUPED | {"attention_bias": True},
    "mixtral": _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": _GROUPED
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}
"""What each small model's config says; the part of the name before the hyphen is its model type."""

ONE_PER_KIND = ("llama", "gemma2", "gpt2", "gpt_neox")
"""Grouped and sharing keys; soft-capped, with norms after attention; fused and biased; parallel."""

_CORPUS = (
    "Q: What is the capital of France?\nA: Paris\n\nQ: Germany\nA: Berlin\n\nThe word is here. "
    "hot -> cold\nbig -> small\nred -> rouge\nhouse -> maison\n"
    " Sentiment: positive negative Answer: yes no"
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `tiny_name` for every small model, one with `tiny_kind` for a few."""
    if "tiny_name" in metafunc.fixturenames:
        metafunc.parametrize("tiny_name", list(VARIANTS))
    if "tiny_kind" in metafunc.fixturenames:
        metafunc.parametrize("tiny_kind", ONE_PER_KIND)


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    """One thread for small models, which several only slow down; the machine's for the real one."""
    torch = sys.modules.get("torch")
    if torch is not None:
        slow = request.node.get_closest_marker("slow")
        is_real = slow is not None and not slow.kwargs.get("small_models")
        torch.set_num_threads((os.cpu_count() or 1) if is_real else 1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE with BOS whose merges cover a few words: rare words are several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=D_VOCAB - 7,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_CORPUS] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
    )


def build_model(name: str, seed: int = 0, **changes: Any) -> Any:
    """A transformers model with random weights, large enough for every part to act; float32."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    said = VARIANTS[name] if name in VARIANTS else config_of(name)
    config = CONFIG_MAPPING[name.partition("-")[0]](**(said | changes))
    # soft-capped attention exists in eager only
    attention = {"attn_implementation": "eager" if name == "gemma2" else "sdpa"}
    if name not in VARIANTS:  # some have no attention, or none through sdpa
        attention = {}
    hf = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **attention)
    generator = torch.Generator().manual_seed(seed)
    for parameter_name, parameter in hf.named_parameters():
        is_norm = parameter.dim() == 1 and parameter_name.endswith("weight")
        mean, std = (1.0, 0.2) if is_norm else (0.0, 0.2)
        torch.nn.init.normal_(parameter, mean=mean, std=std, generator=generator)
    return hf


@pytest.fixture(scope="session")
def fresh_model(
    tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """`fresh_model(name, seed=0, **config)`: a small model of its own, which a test may change."""
    from taskvectors.models import LanguageModel, identity

    engines = tmp_path_factory.mktemp("engines")

    def build(name: str, seed: int = 0, **changes: Any) -> LanguageModel:
        return LanguageModel.wrap(
            build_model(name, seed, **changes), tokenizer, source=f"tiny-{name}"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "cache_folder", lambda: engines)
        yield build


@pytest.fixture(scope="session")
def tiny_model(fresh_model: Callable[..., Any]) -> Callable[..., Any]:
    """`tiny_model(name, seed=0)`: the small model of that name, shared by all tests."""
    return cache(fresh_model)


@pytest.fixture(scope="session")
def tiny_names() -> list[str]:
    """The names that `tiny_model` takes."""
    return list(VARIANTS)


@pytest.fixture(scope="session")
def ragged_prompts() -> Callable[..., list[Any]]:
    """`ragged_prompts(model, n, seed=0)`: prompts of random tokens, of various lengths.

    `lengths` and `answers` bound how many tokens prompt and answer have; the query's vary, too.
    """
    from taskvectors.prompts import Prompt
    from taskvectors.tasks import Example

    def draw(
        model: Any,
        n: int,
        seed: int = 0,
        *,
        lengths: tuple[int, int] = (7, 13),
        answers: tuple[int, int] = (1, 3),
    ) -> list[Prompt]:
        rng = random.Random(seed)

        def tokens(count: int) -> tuple[int, ...]:
            return tuple(rng.randrange(3, model.d_vocab) for _ in range(count))

        def one(number: int) -> Prompt:
            length, cue = rng.randint(*lengths), rng.randint(1, 2)
            first = rng.randint(2, max(2, length - cue - 1))
            return Prompt(
                token_ids=(1, *tokens(length - 1)),
                answer_ids=tokens(rng.randint(*answers)),
                spans={"query": (first, length - cue), "cue": (length - cue, length)},
                query=Example(input=f"input {number}", output=f"output {number}"),
                demonstrations=(),
                text="",
            )

        return [one(number) for number in range(n)]

    return draw


@pytest.fixture(scope="session")
def no_device_is_measured() -> Iterator[None]:
    """Experiments tell what they will take on a device that is made up."""
    from costs.made_up import DEVICE

    from taskvectors.experiments import estimates

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "find_device", lambda name, dtype: DEVICE)
        yield
