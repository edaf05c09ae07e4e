"""Registries: names that no entry can have.

Run with `pytest tests/test_registry.py`.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from taskvectors.errors import TaskVectorsError
from taskvectors.registry import ANALYSES, CONTROLS, EXPERIMENTS, FAMILIES, METHODS, Registry

ALL = pytest.mark.parametrize(
    "registry",
    [ANALYSES, CONTROLS, EXPERIMENTS, FAMILIES, METHODS],
    ids=lambda registry: str(registry.kind),
)


@ALL
@pytest.mark.parametrize("name", ["all", "none"])
def test_a_word_of_the_command_line_is_no_name(registry: Registry[Any], name: str) -> None:
    said = f"no {registry.kind} can be named '{name}': the command line has a meaning of its own"
    with pytest.raises(TaskVectorsError, match=said):
        registry.register(SimpleNamespace(name=name))
    assert name not in registry


@ALL
@pytest.mark.parametrize("name", ["", "-x", "--list", "Mine", "my own", "my_own", "a/b", "mine.py"])
def test_what_no_one_could_type_as_a_name_is_none(registry: Registry[Any], name: str) -> None:
    said = f"the name of a {registry.kind} is words in lower case, joined by hyphens, such as"
    with pytest.raises(TaskVectorsError, match=said):
        registry.register(SimpleNamespace(name=name))


@pytest.mark.parametrize(
    ("registry", "name", "other"), [(METHODS, "majority", "control"), (CONTROLS, "icl", "method")]
)
def test_methods_and_controls_share_a_table_and_so_no_name(
    registry: Registry[Any], name: str, other: str
) -> None:
    with pytest.raises(TaskVectorsError, match=f"there is a {other} '{name}' already"):
        registry.register(SimpleNamespace(name=name))
    assert name not in registry


@ALL
def test_the_packages_own_names_can_all_be_registered(registry: Registry[Any]) -> None:
    for name in registry:
        assert registry.register(registry[name]) is registry[name]
