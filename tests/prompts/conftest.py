"""Small tokenizers of the styles that matter, trained on a few lines in the test run.

`gpt2`: byte-level BPE, the blank belongs to the token, no BOS. `llama3`: the same with BOS and
offsets that leave the blank out. `llama2`: sentencepiece-like BPE with a blank put before the text
and bytes for unknown characters. `gemma`: the same without that blank. `t5`: Unigram over words,
with a token at the end of a text.
"""

import json
from collections.abc import Callable

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import PreTrainedTokenizerFast

LINES = [
    "Q: France\nA: Paris\n\nQ: El Salvador\nA: San Salvador\n\nQ: hot\nA: cold",
    "hot -> cold\nbig -> small\nFrance->Paris\n",
    "a fine film Sentiment: positive\na dull film Sentiment: negative",
    "Question: what is it? Type: description\n\n",
] * 8
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def gpt2() -> PreTrainedTokenizerFast:
    return wrap(byte_level())


def llama3() -> PreTrainedTokenizerFast:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), with_bos(tokenizer)]
    )
    return wrap(tokenizer)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        LINES,
        BpeTrainer(
            vocab_size=420,
            initial_alphabet=alphabet,
            special_tokens=["<s>", "</s>"],
            show_progress=False,
        ),
    )
    return tokenizer


def with_bos(tokenizer: Tokenizer, single: str = "<s> $A") -> processors.TemplateProcessing:
    specials = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    return processors.TemplateProcessing(single=single, special_tokens=specials)


def llama2() -> PreTrainedTokenizerFast:
    tokenizer = sentencepiece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    )
    tokenizer.decoder = decoders.Sequence([*sentencepiece_decoders(), decoders.Strip(" ", 1, 0)])
    return wrap(tokenizer)


def gemma() -> PreTrainedTokenizerFast:
    tokenizer = sentencepiece(normalizers.Replace(" ", "▁"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(sentencepiece_decoders())
    return wrap(tokenizer)


def sentencepiece(
    normalizer: normalizers.Normalizer, extra: tuple[tuple[str, str], ...] = ()
) -> Tokenizer:
    """BPE over whole texts, its merges learned from words; `extra` merges come before them."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\n"), "removed"), pre_tokenizers.Metaspace()]
    )
    trained.train_from_iterator(LINES, BpeTrainer(vocab_size=160, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pairs = [*extra, *(tuple(merge) for merge in model["merges"])]
    tokens = [
        *("<unk>", "<s>", "</s>"),
        *BYTES,
        *model["vocab"],
        *(part for pair in extra for part in (*pair, "".join(pair))),
    ]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = with_bos(tokenizer)
    return tokenizer


def sentencepiece_decoders() -> list[decoders.Decoder]:
    return [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def t5() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = sorted({*"".join(LINES), *"Côte d'Ivoire東京YamoussoukroJapan"})
    tokenizer.train_from_iterator(
        LINES,
        UnigramTrainer(
            vocab_size=140,
            initial_alphabet=alphabet,
            unk_token="<unk>",
            special_tokens=["<unk>", "<s>", "</s>"],
            show_progress=False,
        ),
    )
    tokenizer.post_processor = with_bos(tokenizer, "$A </s>")
    return wrap(tokenizer)


STYLES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    style.__name__: style for style in (gpt2, llama3, llama2, gemma, t5)
}
HAS_BOS = ("llama3", "llama2", "gemma")


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    return {name: make() for name, make in STYLES.items()}


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(
    tokenizers: dict[str, PreTrainedTokenizerFast], style: str
) -> PreTrainedTokenizerFast:
    return tokenizers[style]


@pytest.fixture
def gpt2_tokenizer(tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    return tokenizers["gpt2"]
