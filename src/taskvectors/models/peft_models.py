"""Models that peft has changed: a folder with an adapter, and a `PeftModel`.

An adapter inside the weights (LoRA, (IA)3, ...) is merged: the model has its own modules again, and
what reads weights reads the changed ones. One before the prompt (prompt tuning, prefix tuning)
cannot be merged.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

from taskvectors.errors import TaskVectorsError, UnsupportedModelError, require_package
from taskvectors.files import read_json
from taskvectors.models.completeness import check_files

CONFIG = "adapter_config.json"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def base_of(folder: Path) -> tuple[str, str | None]:
    """The base model that an adapter names, and its revision.

    Raises:
        TaskVectorsError: The folder's config names none, or is damaged.
    """
    check_files(folder)
    held: dict[str, Any] = read_json(folder / CONFIG, dict[str, Any], "download the adapter again")
    base = held.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise TaskVectorsError(
            f"{folder} holds an adapter of peft whose {CONFIG} names no base model. Write the "
            "model's hub id or folder into its base_model_name_or_path."
        )
    revision = held.get("revision")
    return base, revision if isinstance(revision, str) else None


def merge_folder(hf: Any, folder: Path) -> Any:
    """The base model with an adapter's change in its weights.

    Args:
        hf: The base model; it is changed.
        folder: What peft's `save_pretrained` has written.

    Raises:
        TaskVectorsError: peft is missing, or the adapter does not fit the model.
        UnsupportedModelError: The adapter cannot be merged.
    """
    require_package("peft", "demo", f"the adapter {folder.name}")
    import peft

    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        _check_mergeable(config, str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("error", message=".*missing adapter keys")
            adapted = peft.PeftModel.from_pretrained(hf, str(folder), config=config)
        return adapted.merge_and_unload(safe_merge=True)
    except TaskVectorsError:
        raise
    except Exception as error:  # what peft raises depends on the folder's content
        raise TaskVectorsError(
            f"the adapter in {folder} does not fit {type(hf).__name__}: {str(error)[:300]} Take "
            "the base model that it was trained on."
        ) from error


def unwrapped(hf: Any) -> Any:
    """The transformers model inside a `PeftModel`, its adapter merged in place; else `hf` itself.

    `hf.unmerge_adapter()` takes the change out again.

    Raises:
        UnsupportedModelError: The adapter cannot be merged.
    """
    peft: Any = sys.modules.get("peft")  # without it nothing can be a model of it
    if peft is None or not isinstance(hf, peft.PeftModel):
        return hf
    _check_mergeable(hf.active_peft_config, type(hf).__name__)
    try:
        hf.merge_adapter(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"the adapter of {type(hf).__name__} cannot be merged: {error} Wrap its base model."
        ) from error
    return hf.get_base_model()


def _check_mergeable(config: Any, source: str) -> None:
    if config.is_prompt_learning:
        raise UnsupportedModelError(
            f"{source} is an adapter of peft before the prompt ({config.peft_type}), which is not "
            "part of the model's weights. Load its base model; LoRA and (IA)3 can be merged."
        )
