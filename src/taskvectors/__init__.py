"""Task vectors of transformer language models: get one, put it back, measure what it does.

The public names are the list below. Each is imported when it is first used, so `import taskvectors`
loads neither torch nor transformers. A public name wins over a submodule of the same name:
`taskvectors.evaluate` is the function, and `from taskvectors.evaluate import ...` reaches the rest.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from taskvectors._version import __version__ as __version__

_HOMES = {
    "Example": "taskvectors.tasks",
    "LanguageModel": "taskvectors.models",
    "Task": "taskvectors.tasks",
    "TaskVector": "taskvectors.vectors",
    "TaskVectorsError": "taskvectors.errors",
    "aggregate": "taskvectors.api",
    "build_prompts": "taskvectors.prompts",
    "compare": "taskvectors.api",
    "evaluate": "taskvectors.evaluate",
    "explain": "taskvectors.api",
    "extract": "taskvectors.methods",
    "generate": "taskvectors.api",
    "inject": "taskvectors.vectors",
    "learn": "taskvectors.methods",
    "load_model": "taskvectors.models",
    "load_task": "taskvectors.tasks",
    "patch": "taskvectors.models",
    "read_heads": "taskvectors.trunk",
    "read_states": "taskvectors.trunk",
    "reproduce": "taskvectors.api",
    "train": "taskvectors.api",
}

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares the two
    from taskvectors.api import aggregate as aggregate
    from taskvectors.api import compare as compare
    from taskvectors.api import explain as explain
    from taskvectors.api import generate as generate
    from taskvectors.api import reproduce as reproduce
    from taskvectors.api import train as train
    from taskvectors.errors import TaskVectorsError as TaskVectorsError
    from taskvectors.evaluate import evaluate as evaluate
    from taskvectors.methods import extract as extract
    from taskvectors.methods import learn as learn
    from taskvectors.models import LanguageModel as LanguageModel
    from taskvectors.models import load_model as load_model
    from taskvectors.models import patch as patch
    from taskvectors.prompts import build_prompts as build_prompts
    from taskvectors.tasks import Example as Example
    from taskvectors.tasks import Task as Task
    from taskvectors.tasks import load_task as load_task
    from taskvectors.trunk import read_heads as read_heads
    from taskvectors.trunk import read_states as read_states
    from taskvectors.vectors import TaskVector as TaskVector
    from taskvectors.vectors import inject as inject

__all__ = list(_HOMES)


class _Package(ModuleType):
    """This module's type: imports public names on first use and keeps submodules off them."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # the import system binds a submodule to its package once it has run
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(_HOMES)


sys.modules[__name__].__class__ = _Package
