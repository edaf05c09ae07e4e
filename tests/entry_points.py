"""An entry point of another package, as if it were installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from taskvectors.registry import Registry


@contextmanager
def installed(registry: Registry[Any], row: Any) -> Iterator[None]:
    """A row that an entry point names is found by its name alone."""
    point = EntryPoint(name=row.name, value="theirs:ROW", group=registry.group)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(EntryPoint, "load", lambda self: row)
        monkeypatch.setattr(registry, "_entry_points", {row.name: point})
        try:
            assert row.name in registry
            assert registry[row.name] is row
            yield
        finally:
            registry.unregister(row.name)
