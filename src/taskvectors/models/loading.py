"""Loading a model: the embedded one, a hub id, a folder, a GGUF file, or a transformers model.

What is not a whole model is refused before anything runs; see `completeness`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from taskvectors.errors import TaskVectorsError
from taskvectors.models.checks import check_embedded
from taskvectors.models.completeness import (
    check_files,
    check_finite,
    check_loaded,
    check_sizes,
    check_vocabulary,
)
from taskvectors.models.conversion import first_line
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.options import (
    quantization_config,
    resolve_attention,
    resolve_device,
    resolve_dtype,
)
from taskvectors.models.peft_models import base_of, is_adapter, merge_folder, unwrapped
from taskvectors.models.random_model import RANDOM_MODELS, build_random
from taskvectors.models.sources import EMBEDDED, ModelFiles, find_files


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How weights are read."""

    dtype: torch.dtype
    device: str | None
    device_map: str | None
    attention: str | None
    quantization: str | None
    trust_remote_code: bool


def load_model(  # noqa: PLR0913  (the choices transformers offers)
    source: Any = EMBEDDED,
    tokenizer: Any = None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    attention: str | None = None,
    quantization: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a frozen language model and check that it is whole.

    Args:
        source: `embedded`, a hub id, a local folder (of a model, or of a peft adapter whose base
            model can be loaded), or a `.gguf` file; `random` and `random-gpt2` are small ones with
            random weights, to try things out. Or a transformers model, or a `PeftModel`.
        tokenizer: Its tokenizer; by default the one that comes with `source`. A model that is
            loaded already needs it.
        dtype: `auto` is bfloat16 where the processor computes in it, else float32.
        device: Where the model goes; the first GPU, else the CPU, by default.
        device_map: Spread over devices as accelerate does (`auto`); instead of `device`.
        attention: transformers' attention implementation; its own choice by default.
        quantization: Load in 4 or 8 bits (`4bit`, `8bit`) through bitsandbytes.
        revision: Commit or branch of a hub model.
        trust_remote_code: Run the code that comes with the model, where transformers has no class
            for it. That code can do anything; read it first.

    Raises:
        UnsupportedModelError: The model cannot be read or edited, or the checks fail.
        TaskVectorsError: There is no such model, it is not whole, or something it needs is missing.
    """
    if not isinstance(source, str | Path):
        given = (dtype != "auto", device, device_map, attention, quantization, revision)
        if any(given):
            raise TaskVectorsError(
                f"the {type(source).__name__} is loaded already: dtype, device, device_map, "
                "attention, quantization and revision are chosen where it is loaded"
            )
        return _of_loaded(source, tokenizer)
    if device is not None and device_map is not None:
        raise TaskVectorsError("give device or device_map, not both")
    source = str(source)
    options = _Options(
        dtype=resolve_dtype(dtype, device),
        device=None if device_map is not None else resolve_device(device),
        device_map=device_map,
        attention=attention,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
    )
    if source in RANDOM_MODELS:
        return _random(source, options, revision)
    path = Path(source).expanduser()
    if revision and (source == EMBEDDED or path.exists()):
        raise TaskVectorsError(
            f"revision {revision!r} is of a model on the hub, and {source} lies here; leave it out"
        )
    location = source if source == EMBEDDED or not path.exists() else str(path.absolute())
    return replace(_of_files(find_files(source, revision), tokenizer, options), location=location)


def as_model(model: Any) -> LanguageModel:
    """A loaded model; a name or a path is loaded.

    Raises:
        TaskVectorsError: It is a transformers model, whose tokenizer is not known.
    """
    if isinstance(model, LanguageModel):
        return model
    if isinstance(model, str | Path):
        return load_model(model)
    raise TaskVectorsError(
        f"the model is of type {type(model).__name__}; give what tv.load_model returns, such as "
        "tv.load_model(model, tokenizer) for a model of transformers"
    )


def _of_loaded(hf: Any, tokenizer: Any) -> LanguageModel:
    plain = unwrapped(hf)
    if not isinstance(plain, torch.nn.Module) or not hasattr(plain, "config"):
        raise TaskVectorsError(
            f"a model of type {type(hf).__name__} is none of transformers; give its name, its "
            "folder, or what AutoModelForCausalLM.from_pretrained returns"
        )
    if tokenizer is None:
        raise TaskVectorsError(
            f"a {type(hf).__name__} does not have its tokenizer with it; give it as well: "
            "load_model(model, AutoTokenizer.from_pretrained(...))"
        )
    name = type(plain).__name__
    check_finite(plain, name)
    check_vocabulary(plain, tokenizer, name)
    return LanguageModel.wrap(plain, tokenizer)


def _of_files(files: ModelFiles, tokenizer: Any, options: _Options) -> LanguageModel:
    base = files
    folder = Path(files.path)
    if is_adapter(folder):
        base = _base(folder, options)
    config, hf = _read(base, options)
    note = base.note
    if base is not files:
        hf = merge_folder(hf, folder)
        note = f"{base.source} with the adapter {files.source} merged. {base.note}".strip()
        has_tokenizer = (folder / "tokenizer_config.json").is_file()
        tokenizer = tokenizer or _tokenizer(files if has_tokenizer else base, options)
    tokenizer = tokenizer or _tokenizer(base, options)
    if options.device_map is None:
        hf.to(options.device)
    check_finite(hf, files.source)
    check_vocabulary(hf, tokenizer, files.source)
    model = LanguageModel.wrap(
        hf,
        tokenizer,
        source=files.source,
        revision=files.revision or str(getattr(config, "_commit_hash", None) or ""),
        weights_note=note,
    )
    if files.source == EMBEDDED:
        check_embedded(model, files.path)
    return model


def _base(folder: Path, options: _Options) -> ModelFiles:
    """The files of the model that an adapter was trained on."""
    name, revision = base_of(folder)
    try:
        files = find_files(name, revision)
        _config(files, options)
    except TaskVectorsError as error:
        raise TaskVectorsError(
            f"{folder} holds an adapter for the model {name!r}, which cannot be loaded: {error} "
            "Download that model, or write its folder into base_model_name_or_path of "
            "adapter_config.json."
        ) from error
    return files


def _read(files: ModelFiles, options: _Options) -> tuple[Any, Any]:
    """Config and model of some files, every weight of them read."""
    config = _config(files, options)
    about: dict[str, Any] = {
        "attn_implementation": resolve_attention(
            config.get_text_config().model_type, options.attention
        ),
        "device_map": options.device_map,
    }
    if options.quantization is not None:
        about["quantization_config"] = quantization_config(options.quantization)
        about["device_map"] = options.device_map or "auto"
    try:
        hf, info = auto_class(config).from_pretrained(
            files.path,
            dtype=options.dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with their shapes
            **_where(files, options),
            **about,
        )
    except Exception as error:  # what transformers raises depends on the folder's content
        raise _unreadable(files, error) from error
    check_loaded(hf, info, files.source)
    return config, hf


def _config(files: ModelFiles, options: _Options) -> Any:
    """The config, after a look at the files beside it.

    Raises:
        TaskVectorsError: There is none, or it is of a model with an encoder.
    """
    from transformers import AutoConfig, PreTrainedConfig

    folder = Path(files.path)
    if folder.is_dir():
        check_files(folder)
    where = _where(files, options)
    try:
        held, _ = PreTrainedConfig.get_config_dict(files.path, **where)
        check_sizes(held, files.source, folder if folder.is_dir() else None)
        config = AutoConfig.from_pretrained(files.path, **where)
        config.get_text_config()
    except TaskVectorsError:
        raise
    except Exception as error:  # as above
        raise _unreadable(files, error) from error
    if config.is_encoder_decoder:
        raise TaskVectorsError(
            f"{files.source} is an encoder-decoder model ({config.model_type}); task vectors need "
            "a decoder that reads the prompt itself"
        )
    return config


def _tokenizer(files: ModelFiles, options: _Options) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.path, **_where(files, options))
    except Exception as error:  # as above
        raise TaskVectorsError(
            f"cannot load the tokenizer of {files.source}: {first_line(error)} Save it beside the "
            "weights (tokenizer.save_pretrained), or give it: load_model(source, tokenizer)."
        ) from error


def _where(files: ModelFiles, options: _Options) -> dict[str, Any]:
    """What every `from_pretrained` of a model is told."""
    is_on_hub = files.revision and not Path(files.path).exists()
    about: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    return about | ({"revision": files.revision} if is_on_hub else {})


def _unreadable(files: ModelFiles, error: Exception) -> TaskVectorsError:
    from safetensors import SafetensorError

    said = first_line(error)
    if "trust_remote_code" in str(error):
        return untrusted(files.source)
    if isinstance(error, SafetensorError):
        return TaskVectorsError(
            f"the weights of {files.source} are not whole files: {said}. Download them again."
        )
    return TaskVectorsError(
        f"cannot load the model {files.path!r}: {said} Expected 'embedded', a hub id "
        "that can be reached, a folder written by save_pretrained, or a .gguf file."
    )


def untrusted(source: str) -> TaskVectorsError:
    """What to say of a model that needs code of its own."""
    return TaskVectorsError(
        f"{source} comes with code of its own, which is not run unless you ask for it. Read it, "
        "and if you trust who wrote it, pass --trust-remote-code (trust_remote_code=True in "
        "Python)."
    )


def auto_class(config: Any) -> Any:
    """The auto class of transformers that builds a config's own model.

    A checkpoint whose text model sits inside a multimodal one is loaded as what it is, so that no
    weight is left out; only text is given to it.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    named = (getattr(config, "architectures", None) or [""])[0]
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    multimodal = modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(kind)
    if multimodal is None or named == causal:
        return AutoModelForCausalLM
    is_whole = causal is None or config.get_text_config() is not config
    return AutoModelForMultimodalLM if is_whole else AutoModelForCausalLM


def _random(source: str, options: _Options, revision: str | None) -> LanguageModel:
    given = {
        "device_map": options.device_map,
        "quantization": options.quantization,
        "revision": revision,
    }
    for name, value in given.items():
        if value is not None:
            raise TaskVectorsError(
                f"{name} {value!r} says nothing to {source}, whose weights are drawn here; leave "
                "it out"
            )
    attention = resolve_attention(RANDOM_MODELS[source][0], options.attention)
    hf, tokenizer, note = build_random(source, attention)
    hf.to(options.device, options.dtype)
    return LanguageModel.wrap(hf, tokenizer, source=source, location=source, weights_note=note)
