"""Errors a user can act on.

Each message says what was wrong, the value, what was expected and what to do next. The command line
prints them in one line and exits with code 2; anything else is a defect, whose traceback is kept in
a file.
"""

import importlib.util

from taskvectors.format import shortened


class TaskVectorsError(Exception):
    """Anything that went wrong because of what was asked for or given.

    Its text is a few lines without control characters, whatever values it quotes.
    """

    def __str__(self) -> str:
        return shortened(super().__str__())


class UnsupportedModelError(TaskVectorsError):
    """The model's family, or the site asked for, is not one the adapter can read and edit."""


class TokenizationError(TaskVectorsError):
    """A prompt and its answer cannot be told apart as tokens."""


class PromptTooLongError(TaskVectorsError):
    """A prompt has more tokens than the model's context holds."""


class PositionError(TaskVectorsError):
    """A position does not exist in a prompt."""


class DataError(TaskVectorsError):
    """A data file or a data set does not hold what it should."""


class VectorMismatchError(TaskVectorsError):
    """A vector was made for another model, or for other sites."""


class MemoryBudgetError(TaskVectorsError):
    """The smallest piece of work does not fit the memory that was granted."""


def require_package(package: str, extra: str, purpose: str) -> None:
    """Raise unless a package of an extra is installed.

    Args:
        package: The package, as it is imported.
        extra: The extra of taskvectors that brings it.
        purpose: What it is needed for, as the beginning of a sentence.

    Raises:
        TaskVectorsError: It is missing; the message says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise TaskVectorsError(
            f"{purpose} needs {package}, which is not installed; pip install 'taskvectors[{extra}]'"
        )
