"""A model without its weights: every size of it is known, and nothing of it is held.

It is the real model, its parameters on torch's meta device, so that sizes are counted where the
library reads them and not by formulas of their own.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.models.completeness import check_sizes
from taskvectors.models.conversion import first_line
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.loading import auto_class, load_model, untrusted
from taskvectors.models.options import resolve_attention, resolve_dtype
from taskvectors.models.random_model import RANDOM_MODELS
from taskvectors.models.sources import find_files

_PIECES = r" ?[^\W\d_]{1,8}|\d| ?[^\s\w]|\s+|_"
"""What stands for a token where there is no tokenizer: see `stand_in_tokenizer`."""


def known_shapes() -> tuple[str, ...]:
    """Names of the configs that come with the library."""
    folder = files("taskvectors.models") / "shapes"
    return tuple(sorted(path.name.removesuffix(".json") for path in folder.iterdir()))


def load_meta_model(
    source: str,
    *,
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """A model by its config alone.

    Args:
        source: A name of `known_shapes`, a config's `.json` file, or what `load_model` takes; of a
            hub id the config and the tokenizer are fetched, and no weights. The small random models
            are built as they are.
        dtype: Type to compute in.
        revision: Commit or branch of a hub model.
        trust_remote_code: Run the code that comes with the model, as `load_model` does.

    Raises:
        UnsupportedModelError: The family is not supported.
        TaskVectorsError: There is no such config, or it needs code that is not trusted.
    """
    from transformers import AutoConfig, PreTrainedConfig

    if source in RANDOM_MODELS:
        return load_model(source, dtype=dtype)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    options |= {"revision": revision} if revision else {}
    path = source
    if source in known_shapes():
        path = str(files("taskvectors.models") / "shapes" / f"{source}.json")
    elif Path(source).suffix != ".json":
        path = find_files(source, revision).path
    try:
        held, _ = PreTrainedConfig.get_config_dict(path, **options)
        check_sizes(held, source)
        config = AutoConfig.from_pretrained(path, **options)
        with torch.device("meta"):
            hf: Any = auto_class(config).from_config(
                config,
                trust_remote_code=trust_remote_code,
                dtype=resolve_dtype(dtype, None),
                attn_implementation=resolve_attention(config.get_text_config().model_type, None),
            )
    except TaskVectorsError:
        raise
    except Exception as error:  # what transformers raises depends on the config
        if "trust_remote_code" in str(error):
            raise untrusted(source) from error
        raise TaskVectorsError(
            f"no config of a model in {source!r}: {first_line(error)} Expected a config's .json "
            f"file, a model's folder or hub id, or one of {', '.join(known_shapes())}."
        ) from error
    name = Path(source).name or source
    return LanguageModel.wrap(hf, _tokenizer(path, options), source=name, weights_note="no weights")


def stand_in_tokenizer() -> Any:
    """A tokenizer for counting, where a config comes without one.

    A token is up to eight letters with the blank before them, one digit, or one other character. On
    the built-in tasks that gives as many tokens as the embedded model's own tokenizer, to within a
    tenth on each (a test compares them).
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, unk_token="<unk>")


def _tokenizer(path: str, options: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    if Path(path).suffix == ".json":
        return stand_in_tokenizer()
    try:
        return AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError):  # a folder with nothing but a config
        return stand_in_tokenizer()
