"""Families of tasks, one file each; a user's own is a file of the same form.

A file names its class `FAMILY`: a frozen pydantic model with a field `kind` that draws, as
`taskvectors.learners.family.TaskFamily` says. Files of this folder are found, not listed.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.family import TaskFamily


def family_names() -> tuple[str, ...]:
    """The families of this folder, by name."""
    return tuple(sorted(_classes()))


def load_family(name: str, settings: Mapping[str, Any] | None = None) -> TaskFamily:
    """A family with some of its settings changed.

    Args:
        name: A family of this folder, or a path to a Python file that has one.
        settings: Values of its fields; the rest are its defaults.

    Raises:
        TaskVectorsError: There is no such family, or it does not take a value.
    """
    kind = _from_file(Path(name)) if name.endswith(".py") else _classes().get(name)
    if kind is None:
        raise TaskVectorsError(
            f"no family of tasks {name!r}; there are {', '.join(family_names())}, or give the path "
            "of a Python file that names a class FAMILY"
        )
    try:
        family = kind(**(settings or {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(field for field in kind.model_fields if field != "kind")
        raise TaskVectorsError(
            f"the family {name!r} does not take {field} = {first['input']!r}: {first['msg']}; it "
            f"has {known}"
        ) from error
    if not isinstance(family, TaskFamily):
        raise TaskVectorsError(
            f"{kind.__name__} in {name} is no family of tasks; what one has to have is in "
            "taskvectors.learners.family.TaskFamily"
        )
    return family


def _classes() -> dict[str, Any]:
    """Every class `FAMILY` of this folder by the default of its `kind`."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        kind = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAMILY", None)
        if kind is not None:
            found[kind.model_fields["kind"].default] = kind
    return found


def _from_file(path: Path) -> Any:
    """The class `FAMILY` of a user's file."""
    spec = importlib.util.spec_from_file_location(f"taskvectors_family_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TaskVectorsError(f"there is no file {path}; give a family's name or its file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "FAMILY"):
        raise TaskVectorsError(f"{path} names no class FAMILY; it is to name its family of tasks")
    return module.FAMILY
