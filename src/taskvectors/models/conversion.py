"""A GGUF file as a folder that `from_pretrained` reads, in the user's cache.

De-quantising takes part of a minute for the embedded model. The copy is kept under the file's hash
and loads in seconds afterwards. It is written under another name and renamed when whole.
"""

import hashlib
import importlib.util
import json
import logging
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.files import read_json
from taskvectors.models.completeness import check_files, check_sizes
from taskvectors.models.gguf_vocabulary import (
    add_bos,
    check_tokenizer,
    gemma_tokenizer,
    is_gemma,
    read_header,
    read_vocabulary,
)

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of the copies; raised when those of an earlier version are to be made again. Those of 1 could
hold a wrong tokenizer."""
_LAST_FILE = "conversion.json"
_TOKEN_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


def converted(gguf: Path) -> tuple[Path, str]:
    """The folder of a file's copy, which is made if it is not there, and the file's hash."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = folder_of(digest)
    if not is_whole(folder):
        convert(gguf, folder)
    return folder, digest


def folder_of(digest: str) -> Path:
    """Where the copy of a file is kept."""
    from platformdirs import user_cache_path

    return user_cache_path("taskvectors") / "converted" / digest[:16]


def is_whole(folder: Path) -> bool:
    """Whether a copy is there, whole, and made by a version that makes it as this one does."""
    if not all((folder / name).is_file() for name in (_LAST_FILE, "config.json", "tokenizer.json")):
        return False
    try:
        check_files(folder)
        made = read_json(folder / _LAST_FILE, dict[str, Any], "it is made again")
    except (OSError, TaskVectorsError) as error:
        logger.warning("The copy in %s is damaged and is made again: %s", folder, error)
        return False
    return bool(made.get("format") == FORMAT)


def convert(gguf: Path, folder: Path) -> None:
    """De-quantise a GGUF file once, tokenizer included, into a folder.

    Raises:
        TaskVectorsError: It is no GGUF file, transformers does not convert it, or the package gguf
            is missing.
        UnsupportedModelError: The tokenizer that comes out is not the one that the file describes.
    """
    if importlib.util.find_spec("gguf") is None:
        raise TaskVectorsError(
            f"reading {gguf.name} needs the package gguf; pip install 'taskvectors[demo]'"
        )
    import transformers

    logger.warning("Converting %s once (about a minute); the copy is kept in %s", gguf.name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        vocabulary = read_vocabulary(gguf)
        check_sizes(read_header(gguf), gguf.name)
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = (
                gemma_tokenizer(vocabulary)
                if is_gemma(vocabulary)
                else transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            )
        except (OSError, ValueError, LookupError, NotImplementedError, struct.error) as error:
            raise TaskVectorsError(
                f"cannot read {gguf.name} as a GGUF file: {first_line(error)}. Expected a whole "
                "file of an architecture that transformers converts."
            ) from error
        add_bos(tokenizer, vocabulary)
        check_tokenizer(tokenizer, vocabulary, gguf.name)
        save_tokenizer(tokenizer, partial)
        _plain(model).save_pretrained(partial)
        made = {"file": gguf.name, "transformers": transformers.__version__, "format": FORMAT}
        (partial / _LAST_FILE).write_text(json.dumps(made))
        if folder.exists():  # cut off, of another version, or just made by another process
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer so that it loads fast.

    Where tokenizer_config.json has no `added_tokens_decoder`, transformers parses the whole of
    tokenizer.json in Python to make one: 2 of 3.5 s of processor time for Gemma's 33 MB.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    added = tokenizer.added_tokens_decoder
    special = {str(number): added[number] for number in tokenizer.all_special_ids}
    settings["added_tokens_decoder"] = {
        number: {name: getattr(token, name) for name in _TOKEN_FIELDS}
        for number, token in special.items()
    }
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def first_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).partition("\n")[0]


def _plain(model: Any) -> Any:
    """The same weights without the mark of having been quantised, which refuses to be saved."""
    config = type(model.config).from_dict(
        {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    )
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain
