"""What users give, as what the library works on."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvectors.errors import TaskVectorsError
from taskvectors.models import LanguageModel, load_model
from taskvectors.vectors import TaskVector

if TYPE_CHECKING:
    Vector = TaskVector | str | PathLike[str]


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


def as_vector(vector: Any) -> TaskVector:
    """A vector; a path is read.

    Raises:
        TaskVectorsError: It is neither.
    """
    if isinstance(vector, TaskVector):
        return vector
    if isinstance(vector, str | PathLike):
        return TaskVector.load(vector)
    raise TaskVectorsError(
        f"the vector is of type {type(vector).__name__}; give a TaskVector or its folder"
    )


def as_tuple(values: Any) -> tuple[Any, ...]:
    """One value, or several, as a tuple."""
    return tuple(values) if isinstance(values, list | tuple | range | set) else (values,)
