"""Registries: what there is by name, each entry stated once, in a file of its own.

A file of `explain/` ends in `ANALYSES.register(Analysis(name="lens", ...))`, and is named after its
entry (`head-ablation` is `head_ablation.py`), so that names are known without importing anything.
Entries of other packages come in through an entry point, or through `register`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol, TypeVar, runtime_checkable

from taskvectors.errors import TaskVectorsError


@runtime_checkable
class Named(Protocol):
    """An entry."""

    @property
    def name(self) -> str:
        """Its name on the command line: words in lower case, joined by hyphens."""


Entry = TypeVar("Entry", bound=Named)

_WORDS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TAKEN = ("all", "none")
"""Words that the command line has for itself: `reproduce all`, `explain --other-vector none`."""


class Registry(Mapping[str, Entry]):
    """Entries by name, each imported when it is first asked for.

    In the order of the package's files, then of entry points, then of what was registered.

    Args:
        kind: What an entry is, for messages.
        package: Each module of it that is no package itself holds one entry, and has its name.
        group: Entry points of this group name entries of other packages.
        many_per_file: A module holds several: all are imported to know their names, and entries
            are in the order of their names.
        beside: Entries that stand in the same tables, so that no name may be of both.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        group: str,
        *,
        many_per_file: bool = False,
        beside: "Registry[Any] | None" = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self.many_per_file = many_per_file
        self.beside = beside
        if beside is not None:
            beside.beside = self
        self._entries: dict[str, Entry] = {}

    @cached_property
    def _modules(self) -> dict[str, str]:
        """The package's own modules by the name of the entry in each."""
        root, *inner = self.package.split(".")
        spec = find_spec(root)  # of the root alone: that of a package inside imports what holds it
        roots = (spec.submodule_search_locations if spec else None) or ()
        places = [str(Path(place, *inner)) for place in roots]
        return {
            module.name.replace("_", "-"): f"{self.package}.{module.name}"
            for module in iter_modules(places)
            if not module.ispkg and not module.name.startswith("_")
        }

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _import(self, name: str) -> None:
        """Import the package's own module of a name; where modules hold several, all of them."""
        if self.many_per_file:
            for module in self._modules.values():
                import_module(module)
        elif name in self._modules:
            import_module(self._modules[name])

    def register(self, entry: Entry) -> Entry:
        """Add an entry under its name, and return it.

        Raises:
            TaskVectorsError: Another entry has that name, the command line has it for itself, or
                it is not words in lower case, joined by hyphens.
        """
        name = entry.name
        if name in _TAKEN:
            raise TaskVectorsError(
                f"no {self.kind} can be named {name!r}: the command line has a meaning of its own "
                "for that word; register yours under another name"
            )
        if not _WORDS.fullmatch(name):
            raise TaskVectorsError(
                f"the name of a {self.kind} is words in lower case, joined by hyphens, such as "
                f"'my-own-2', not {name!r}; register yours under such a name"
            )
        self._import(name)  # the package's own comes first
        is_beside = self.beside is not None and name in self.beside
        if is_beside or self._entries.setdefault(name, entry) is not entry:
            kind = self.beside.kind if self.beside and is_beside else self.kind
            raise TaskVectorsError(
                f"there is a {kind} {name!r} already; register yours under another name"
            )
        return entry

    def unregister(self, name: str) -> None:
        """Take out an entry that was registered, as a test does after itself."""
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._import(name)
            if name not in self._entries and name in self._entry_points:
                self.register(self._entry_points[name].load())
            if name not in self._entries:
                raise KeyError(name)
        return self._entries[name]

    def find(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            TaskVectorsError: There is none.
        """
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self)
            raise TaskVectorsError(f"there is no {self.kind} {name!r}; there are {known}") from None

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)

    def __iter__(self) -> Iterator[str]:
        if self.many_per_file:
            self._import("")
            return iter(sorted({*self._entry_points, *self._entries}))
        return iter(dict.fromkeys((*self._modules, *self._entry_points, *self._entries)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


ANALYSES: Registry[Any] = Registry("analysis", "taskvectors.explain", "taskvectors.analyses")
"""Analyses of vectors; here, so that their names are known without torch."""
METHODS: Registry[Any] = Registry("method", "taskvectors.methods", "taskvectors.methods")
"""Methods that find vectors."""
CONTROLS: Registry[Any] = Registry(
    "control", "taskvectors.methods.controls", "taskvectors.controls", beside=METHODS
)
"""Baselines that must score lower than a vector."""
EXPERIMENTS: Registry[Any] = Registry(
    "experiment", "taskvectors.experiments.catalog", "taskvectors.experiments", many_per_file=True
)
"""Tables and figures of papers that can be made again."""
FAMILIES: Registry[Any] = Registry(
    "family of tasks", "taskvectors.learners.tasks", "taskvectors.families"
)
"""Families of tasks that learners are trained on."""
