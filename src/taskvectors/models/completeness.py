"""Whether what is loaded is a whole model; if it is not, an error says what is missing.

transformers fills a weight that no file has with random numbers, and leaves out one that the model
has no place for. Both give a model that runs and answers nonsense.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from taskvectors.errors import TaskVectorsError
from taskvectors.files import read_json

_POINTER = b"version https://git-lfs.github.com/spec/"
_DOWNLOAD = "Download the file again (git lfs pull, or `hf download`)."
_LIMIT = 6
"""Names in one message."""
_NO_ROW = re.compile(r"image|audio|video|vision|speech|boi|eoi|img|^<.endoftext.>$", re.IGNORECASE)
"""Tokens that need no row. Some stand for something else than text: Gemma 3's tokenizer has one
that its text-only sizes lack. GPT-2's end of text is added by transformers to tokenizers without
it."""

_LARGE_JSON = 1_000_000
"""Bytes above which only the end of a file is looked at: parsing a tokenizer takes seconds."""
_LAYERS = re.compile(r".*(layers?|blocks?|block_count|depth)")
_SIZES = re.compile(
    r".*(size|dim|width|heads?|experts?|n_inner|d_model|d_ff|d_kv|n_embd|n_positions)"
)
MOST_LAYERS = 10_000
"""Far more than any model has; as many modules still take no time to be made."""
_TABLE = re.compile(r"\b(inv_freq|masked_bias|position_ids)$")
"""Tables that earlier versions of transformers saved among the weights; a model makes its own."""


def check_files(folder: Path) -> None:
    """Check the files of a model's folder without reading the weights.

    Raises:
        TaskVectorsError: A file is empty, a pointer, cut off or missing; the message names it.
    """
    named = [*folder.glob("*.json"), *folder.glob("*.model"), *_weight_files(folder)]
    for file in named:
        _check_file(file)


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would read weights from, in its order of preference."""
    names = ("model.safetensors", "pytorch_model.bin")
    for name in (*names, "adapter_model.safetensors", "adapter_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return [folder / name]
        if index.exists():
            _check_file(index)
            return _shards(index)
    return []


class _Index(BaseModel):
    """Which file holds which weight."""

    weight_map: dict[str, str]


def _shards(index: Path) -> list[Path]:
    held: _Index = read_json(index, _Index, "download it again")
    names = sorted(set(held.weight_map.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise TaskVectorsError(f"{index} names {outside[0]!r}, which is no file beside it")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise TaskVectorsError(
            f"{index.parent} lacks {len(missing)} of its {len(names)} weight files: "
            f"{_few(missing)}. Download them."
        )
    return [index.parent / name for name in names]


def _check_file(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(len(_POINTER))
    if start == _POINTER:
        raise TaskVectorsError(
            f"{file} is a git-LFS pointer of {size} bytes, not the file itself. {_DOWNLOAD}"
        )
    fault = "it is empty" if size == 0 else _fault(file)
    if fault:
        raise TaskVectorsError(f"{file} is not a whole file ({size} bytes): {fault}. {_DOWNLOAD}")


def _fault(file: Path) -> str:
    """What is wrong with the form of a file; empty where nothing is."""
    if file.suffix == ".json":
        return _json_fault(file)
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError as error:
            return str(error)
    if file.suffix == ".bin":
        with file.open("rb") as opened:
            start = opened.read(2)
        if start == b"PK" and not zipfile.is_zipfile(file):
            return "the end of the archive is missing"
        if start not in (b"PK", b"\x80\x02"):  # an archive, or a pickle of torch before 1.6
            return "it holds no weights of torch"
    return ""


def _json_fault(file: Path) -> str:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 64))
        end = opened.read().rstrip()
    if not end.endswith((b"}", b"]")):
        return "no JSON (its end is missing)"
    if file.stat().st_size > _LARGE_JSON:
        return ""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return f"no JSON ({error})"
    return ""


def check_sizes(config: Mapping[str, Any], source: str, folder: Path | None = None) -> None:
    """Check that a model of a config's sizes can be made, before anything is.

    Args:
        config: What `config.json`, or the head of a GGUF file, says, as plain data.
        source: What is loaded, for messages.
        folder: Where its weights lie; None where they are not to be read, or not there yet.

    Raises:
        TaskVectorsError: It has more layers than any model, or a size beyond what the weights hold.
    """
    n_bytes = sum(f.stat().st_size for f in _weight_files(folder)) if folder else 0
    for name, value in _numbers(config):
        if _LAYERS.fullmatch(name) and value > MOST_LAYERS:
            why = f"a model of more than {MOST_LAYERS} layers is not made"
        elif _SIZES.fullmatch(name) and n_bytes and value > 8 * n_bytes:  # a number takes a bit
            why = f"its weights hold fewer numbers ({n_bytes} bytes)"
        else:
            continue
        raise TaskVectorsError(
            f"the config of {source} cannot be right: {name} is {Decimal(value):.3g}, and {why}. "
            "Correct it, or download the model again."
        )


def _numbers(config: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a config, those of models inside it too, with its name."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _numbers(value, str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _numbers(value, name)
    elif isinstance(config, (int, float)) and not isinstance(config, bool):
        yield name, config


def check_loaded(hf: Any, info: Mapping[str, Any], source: str) -> None:
    """Check that every weight of the model came from the files, and every weight of the files went.

    Args:
        hf: The transformers model.
        info: What `from_pretrained` says with `output_loading_info`.
        source: What was loaded, for messages.

    Raises:
        TaskVectorsError: Weights are missing, unexpected, or of another shape.
    """
    wrong = sorted((name, tuple(has), tuple(wants)) for name, has, wants in info["mismatched_keys"])
    if wrong:
        name, has, wants = wrong[0]
        more = f" ({len(wrong)} weights in all)" if len(wrong) > 1 else ""
        raise TaskVectorsError(
            f"{source} is not a whole model: {name} has the shape {has} in the weights, where "
            f"config.json makes it {wants}{more}. Weights and config.json are of two models; take "
            "both from one."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise TaskVectorsError(
            f"{source} is not a whole model: no file has {_weights(missing)}. {_cure(hf, missing)}"
        )
    unexpected = sorted(name for name in info["unexpected_keys"] if not _TABLE.search(name))
    if unexpected:
        raise TaskVectorsError(
            f"{source} is not what its config.json describes: {type(hf).__name__} has no place for "
            f"{_weights(unexpected)}. Correct model_type, architectures or the number of layers in "
            "config.json, or take these weights out of the file if the model does without them."
        )


def _cure(hf: Any, missing: list[str]) -> str:
    head = hf.get_output_embeddings()
    names = {f"{name}." for name, module in hf.named_modules() if module is head}
    if all(name.startswith(tuple(names)) for name in missing):
        return (
            "It was saved without its head, as AutoModel does; save the model from "
            "AutoModelForCausalLM."
        )
    return (
        "If config.json has more layers than the weights, correct its number of layers; otherwise "
        "download or save the model again, whole."
    )


def check_finite(hf: Any, source: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        TaskVectorsError: One is; the message names it and says where.
    """
    plain = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    seen = set()
    for name, weight in hf.state_dict().items():
        place = (weight.data_ptr(), weight.shape, weight.dtype)  # tied weights have two names
        if weight.dtype not in plain or weight.is_meta or not weight.numel() or place in seen:
            continue
        seen.add(place)
        lowest, highest = weight.aminmax()  # NaN where any number is
        if bool(lowest.isfinite() & highest.isfinite()):
            continue
        count = int((~weight.isfinite()).sum())
        raise TaskVectorsError(
            f"{source} cannot be used: {count} of the {weight.numel()} numbers of {name} are not "
            "finite (NaN or infinite). Save the weights from a model that works, or load them in a "
            "wider type if they were cut to float16."
        )


def check_vocabulary(hf: Any, tokenizer: Any, source: str) -> None:
    """Check that every token that a text can become has a row in the embedding.

    Raises:
        TaskVectorsError: The tokenizer has more tokens; the message has both sizes.
    """
    rows = int(hf.get_input_embeddings().weight.shape[0])
    words = {number: word for word, number in tokenizer.get_vocab().items() if number >= rows}
    words = {n: word for n, word in words.items() if not _NO_ROW.search(word)}
    if words:
        first = ", ".join(f"{words[number]!r} is {number}" for number in sorted(words)[:3])
        raise TaskVectorsError(
            f"the embedding of {source} has {rows} rows, but its tokenizer has tokens up to "
            f"{max(words)} ({first}). Resize the model and save it: "
            f"hf.resize_token_embeddings({max(words) + 1}); hf.save_pretrained(folder). Or load it "
            "with the tokenizer it was trained with."
        )


def _weights(names: Iterable[str]) -> str:
    """Names of weights, those of several blocks together: `model.layers.{4,5}.mlp.up_proj`."""
    together: dict[str, list[str]] = {}
    for name in names:
        number = re.search(r"\.(\d+)\.", name)
        key = name if number is None else f"{name[: number.start()]}.{{}}.{name[number.end() :]}"
        together.setdefault(key, []).extend([] if number is None else [number[1]])
    lines = [
        key.replace("{}", "{" + ",".join(sorted(set(at), key=int)) + "}") if len(at) > 1
        else key.replace("{}", at[0]) if at else key
        for key, at in together.items()
    ]  # fmt: skip
    return _few(lines)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _LIMIT} more" if len(names) > _LIMIT else ""
    return ", ".join(names[:_LIMIT]) + more
