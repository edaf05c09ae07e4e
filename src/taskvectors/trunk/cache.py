"""Trunks that several pieces of work share: the same prompts are not run again.

They are kept as long as they fit a share of the memory budget; the one that was not used for the
longest time goes first.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from taskvectors.errors import MemoryBudgetError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.sites import Component
from taskvectors.prompts import Prompt
from taskvectors.trunk.edits import Position
from taskvectors.trunk.engine import Trunk
from taskvectors.trunk.memory import resolve_budget
from taskvectors.trunk.split import suffix_start

KEPT_SHARE = 0.25
"""Share of the budget that kept trunks may take."""

_Planned = TypeVar("_Planned")


class _Kept(NamedTuple):
    """A trunk, and the seconds that building it took."""

    trunk: Trunk
    seconds: float


class TrunkCache:
    """Trunks that were built within one memory budget and are still at hand.

    Args:
        memory: Budget in bytes; a share of what is free by default.
    """

    def __init__(self, memory: int | None = None) -> None:
        self.memory = memory
        self._trunks: dict[object, _Kept] = {}
        self._saved = 0.0
        self.bytes_reused = 0
        """Memory of the trunks that were used again, each time they were."""

    @property
    def bytes_held(self) -> int:
        """Memory of all kept trunks."""
        return sum(kept.trunk.bytes_held for kept in self._trunks.values())

    def clock(self) -> float:
        """Seconds that would have passed if each piece of work had built its trunks itself."""
        return time.perf_counter() + self._saved

    def plan(self, model: LanguageModel, plan: Callable[[int], _Planned]) -> _Planned:
        """What `plan` makes of the budget beside the kept trunks, which go where they are too much.

        Args:
            model: The model.
            plan: From bytes to a plan.

        Raises:
            MemoryBudgetError: The whole budget is not enough.
        """
        budget = resolve_budget(self.memory, model.device)
        if self.memory is None or not self._trunks:  # what is free is free of them already
            return plan(budget)
        try:
            return plan(budget - self.bytes_held)
        except MemoryBudgetError:
            self._trunks.clear()
            return plan(budget)

    def build(
        self,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        *,
        positions: Sequence[Position] = (-1,),
        sites: Sequence[tuple[int, Component]] = (),
        rows_per_pass: int | None = None,
    ) -> Trunk:
        """The trunk of some prompts: as `Trunk.build`, or as it was built before.

        Args:
            model: The model.
            prompts: Prompts with their answers.
            positions: Positions that branches will edit or read.
            sites: Further sites to read at the suffix.
            rows_per_pass: Prompts per forward pass; all at once by default.
        """
        starts = tuple(suffix_start(prompt, positions) for prompt in prompts)
        key = (id(model), tuple(prompts), starts)  # a kept trunk keeps its model too
        kept = self._trunks.pop(key, None)
        if kept is not None and kept.trunk.prepared.sites.keys() >= set(sites):
            self._saved += kept.seconds
            self.bytes_reused += kept.trunk.bytes_held
        else:
            started = time.perf_counter()
            trunk = Trunk.build(
                model, prompts, positions=positions, sites=sites, rows_per_pass=rows_per_pass
            )
            kept = _Kept(trunk, time.perf_counter() - started)
        self._trunks[key] = kept  # the last one used stands last
        limit = KEPT_SHARE * resolve_budget(self.memory, model.device)
        while self.bytes_held > limit:
            self._trunks.pop(next(iter(self._trunks)))
        return kept.trunk
