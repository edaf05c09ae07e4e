"""The vocabulary of a GGUF file, and the tokenizer that it means.

transformers reads weights rightly in all its versions, but 5.17 makes another tokenizer of a Gemma
file than its own: words fall into characters and nothing begins with BOS. So Gemma's tokenizer is
made here, from the file alone; that of others is given its BOS and checked against the file.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskvectors.errors import TaskVectorsError, UnsupportedModelError

_SPACE = "\u2581"  # how a vocabulary of SentencePiece spells a space
_BYTE_SPACE = "\u0120"  # how a byte-level one does
_CONTROL, _USER_DEFINED = 3, 4
"""Kinds of tokens: those that no text means, and those that are found in a text before all else."""
_GEMMA = ("gemma", "gemma2", "gemma3")

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: numbers by their type's code
_FORMATS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

_N_WORDS, _SHARE = 200, 0.9
"""How many words of a vocabulary are asked for, and how many of them must come back whole."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a GGUF file says about its tokens."""

    architecture: str
    kind: str
    """`llama` for SentencePiece, `gpt2` for byte-level BPE."""
    tokens: Sequence[str]
    types: Sequence[int]
    bos: int | None
    eos: int | None
    unknown: int | None
    padding: int | None
    adds_bos: bool | None
    """Whether a text begins with BOS; None where the file does not say."""
    chat_template: str | None


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a file, without its weights.

    Raises:
        TaskVectorsError: It is no GGUF file, or has no vocabulary.
    """
    try:
        said = read_header(path)
        tokens = said["tokenizer.ggml.tokens"]
    except (ValueError, KeyError, struct.error) as error:
        raise TaskVectorsError(
            f"cannot read {path.name} as a GGUF file: {error}. Expected a whole file of a language "
            "model, with its vocabulary."
        ) from error
    ids = {
        n: said.get(f"tokenizer.ggml.{n}_token_id") for n in ("bos", "eos", "unknown", "padding")
    }
    return Vocabulary(
        architecture=str(said.get("general.architecture", "")),
        kind=str(said.get("tokenizer.ggml.model", "")),
        tokens=tokens,
        types=said.get("tokenizer.ggml.token_type") or [1] * len(tokens),
        adds_bos=said.get("tokenizer.ggml.add_bos_token"),
        chat_template=said.get("tokenizer.chat_template"),
        **ids,
    )


def is_gemma(vocabulary: Vocabulary) -> bool:
    """Whether the tokenizer is one that is made here."""
    return vocabulary.kind == "llama" and vocabulary.architecture in _GEMMA


def gemma_tokenizer(vocabulary: Vocabulary) -> Any:
    """A Gemma tokenizer: BPE over the whole text, spaces spelt out, unknown characters as bytes.

    The file lists no merges: its tokens stand in the order in which they were merged, so the pairs
    that make a token have its number as their rank.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    spelt = [_SPACE * len(t) if t and not t.strip(" ") else t for t in vocabulary.tokens]
    names = {
        name: None if number is None else spelt[number]
        for name, number in (
            ("bos_token", vocabulary.bos),
            ("eos_token", vocabulary.eos),
            ("unk_token", vocabulary.unknown),
            ("pad_token", vocabulary.padding),
        )
    }
    numbers = {token: number for number, token in enumerate(spelt)}
    made = Tokenizer(
        models.BPE(
            vocab=numbers,
            merges=merges_of(spelt, numbers),
            unk_token=names["unk_token"],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    made.normalizer = normalizers.Replace(" ", _SPACE)
    made.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(_added(AddedToken, vocabulary.types, spelt, _CONTROL))
    # runs of spaces are user-defined too: as pieces of the text, which is spelt by then
    whole = [t if _SPACE not in t else "" for t in spelt]
    made.add_tokens(_added(AddedToken, vocabulary.types, whole, _USER_DEFINED))
    if vocabulary.adds_bos is not False and names["bos_token"] is not None:
        made.post_processor = _with_bos(names["bos_token"], vocabulary.bos)
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(tokenizer_object=made, padding_side="left", **names)
    tokenizer.chat_template = vocabulary.chat_template
    return tokenizer


def add_bos(tokenizer: Any, vocabulary: Vocabulary) -> None:
    """Let texts begin with BOS where the file says so and transformers has left it out.

    5.17 does for byte-level vocabularies.
    """
    from tokenizers import processors

    if not vocabulary.adds_bos or vocabulary.bos is None:
        return
    if tokenizer("a")["input_ids"][:1] == [vocabulary.bos]:
        return
    backend = tokenizer.backend_tokenizer
    begin = _with_bos(vocabulary.tokens[vocabulary.bos], vocabulary.bos)
    before = backend.post_processor
    backend.post_processor = begin if before is None else processors.Sequence([before, begin])


def merges_of(tokens: Sequence[str], numbers: dict[str, int]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, in its order.

    Of the pairs that make the same token, the one whose left part comes last is first.
    """
    merges = []
    for token in tokens:
        cuts = range(len(token) - 1, 0, -1)
        pairs = [(token[:cut], token[cut:]) for cut in cuts]
        found = [pair for pair in pairs if pair[0] in numbers and pair[1] in numbers]
        found.sort(key=lambda pair: (numbers[pair[0]], numbers[pair[1]]), reverse=True)
        merges += found
    return merges


def check_tokenizer(tokenizer: Any, vocabulary: Vocabulary, name: str) -> None:
    """Check that a tokenizer makes whole words of whole words, and begins as the file says.

    Raises:
        UnsupportedModelError: It does not: prompts would not be what the model was trained on.
    """
    import transformers

    advice = (
        f"transformers {transformers.__version__} makes another tokenizer of {name} than the file "
        "describes: {}. Update transformers, or convert the file with save_pretrained elsewhere "
        "and give that folder."
    )
    space = _SPACE if vocabulary.kind == "llama" else _BYTE_SPACE
    words = [
        (number, token)
        for number, token in enumerate(vocabulary.tokens)
        if len(token) > 3 and token[0] == space and token[1:].isascii() and token[1:].isalpha()
    ]
    asked = words[:: max(1, len(words) // _N_WORDS)][:_N_WORDS]
    context = "a" if vocabulary.kind == "gpt2" else "the"
    whole = sum(
        tokenizer(context + " " + token[1:], add_special_tokens=False)["input_ids"][-1] == number
        for number, token in asked
    )
    if whole < _SHARE * len(asked):
        raise UnsupportedModelError(
            advice.format(f"only {whole} of {len(asked)} of its words come back as one token")
        )
    begins = tokenizer("a")["input_ids"][0] == vocabulary.bos
    if vocabulary.adds_bos is not None and begins != vocabulary.adds_bos:
        has = "begins" if begins else "does not begin"
        raise UnsupportedModelError(advice.format(f"a text {has} with BOS"))


def _with_bos(token: str, number: int | None) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, number)]
    )


def _added(kind: Any, types: Sequence[int], tokens: Sequence[str], wanted: int) -> list[Any]:
    return [
        kind(token, normalized=False, special=wanted == _CONTROL)
        for token, one in zip(tokens, types, strict=True)
        if one == wanted and token
    ]


def read_header(path: Path) -> dict[str, Any]:
    """Everything a GGUF file says before its tensors."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, _, n_keys = struct.unpack_from("<IQQ", data, 4)
        if version not in (2, 3):
            raise ValueError(f"it is of version {version}, known are 2 and 3")
        at, said = 24, {}
        for _ in range(n_keys):
            key, at = _string(data, at)
            (code,) = struct.unpack_from("<I", data, at)
            said[key], at = _value(data, at + 4, code)
    return said


def _value(data: mmap.mmap, at: int, code: int) -> tuple[Any, int]:
    """A value of some type, and where it ends."""
    if code == _STRING:
        return _string(data, at)
    if code != _ARRAY:
        if code not in _FORMATS:
            raise ValueError(f"type {code} of a value is not known")
        return struct.unpack_from(_FORMATS[code], data, at)[0], at + struct.calcsize(_FORMATS[code])
    inner, n = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _FORMATS:
        form = f"<{n}{_FORMATS[inner][1]}"
        return list(struct.unpack_from(form, data, at)), at + struct.calcsize(form)
    values = []
    for _ in range(n):
        value, at = _value(data, at, inner)
        values.append(value)
    return values, at


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + length
    if end > len(data):
        raise ValueError("it ends within its header")
    return data[at + 8 : end].decode("utf-8", errors="replace"), end
