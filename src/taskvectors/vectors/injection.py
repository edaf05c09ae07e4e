"""`inject`: while inside, every call of the model carries the vectors.

Positions are those of the prompt in every kind of call: with padding on either side, with a cache,
with beams. A call whose cache is empty brings prompts; one with a filled cache brings one new token
per row. Where nothing is cached, a step of generation repeats its prompts and is known by that.

An injection belongs to the context that entered it (`contextvars`): a thread, an asyncio task.
Calls of other contexts on the same model, with injections of their own or none, are not touched.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor

from taskvectors.errors import PositionError, TaskVectorsError
from taskvectors.models import LanguageModel, patch
from taskvectors.models.calls import Call, counts_padding, watching_calls
from taskvectors.models.sites import check_site
from taskvectors.prompts import Prompt, resolve_positions
from taskvectors.trunk.edits import rotated
from taskvectors.vectors.places import (
    WITHOUT_PROMPTS,
    Layout,
    generated_only,
    read_layout,
    with_generated,
)
from taskvectors.vectors.plans import Group, Placed, group_edits, per_row, place_groups
from taskvectors.vectors.storage import as_vector
from taskvectors.vectors.task_vector import TaskVector

logger = logging.getLogger(__name__)


@contextmanager
def inject(
    model: LanguageModel,
    vector: TaskVector | str | PathLike[str] | Sequence[TaskVector | None],
    *,
    strength: float = 1.0,
    prompts: Sequence[Prompt] | None = None,
) -> Iterator[None]:
    """Let every transformers call of a model carry a vector while inside; `generate` too.

    Injections inside one another act in the order in which they were entered. A row that
    `generate` makes several of (beams, `num_return_sequences`) keeps its vector in all of them.
    Without a cache, a call goes on with the prompts of the one before if both say
    `use_cache=False` and it has the same tokens and one more; `generate` calls like that.

    It acts on calls of the context it was entered in. A thread that is started inside is another
    one, unless it runs in a copy: `Thread(target=contextvars.copy_context().run, args=(f,))`;
    `asyncio.to_thread` does so by itself.

    Args:
        model: The model; call `model.hf` inside.
        vector: One vector for all rows, or its folder; or for each row its own or None.
        strength: What the vector is multiplied by.
        prompts: The prompts of the rows, for positions that have to be known from them
            (`query_last`, `cue`, `answer`, ...). What follows a prompt in its row is its answer.

    Raises:
        VectorMismatchError: A vector was made for another model.
        PositionError: A prompt does not have a position.
        TaskVectorsError: A call whose tokens cannot be told apart, or, at exit, a site that no
            call has reached.
    """
    if isinstance(vector, str | PathLike):
        vector = as_vector(vector)
    injection = _prepare(model, vector, strength, prompts)
    with ExitStack() as stack:
        stack.enter_context(watching_calls(model, injection.watch, injection.is_active))
        for number, group in enumerate(injection.groups):
            rewrite = partial(injection.rewrite, number)
            stack.enter_context(patch(model, group.layer, group.component, rewrite))
        _active.set((*_active.get(), injection))
        try:
            yield
        finally:
            # not by a token: a generator may be closed in another context than it was begun in
            _active.set(tuple(one for one in _active.get() if one is not injection))
    injection.check_reached()


class _Calls(threading.local):
    """What an injection knows of the calls of one thread."""

    def __init__(self) -> None:
        self.plan: dict[int, Placed] = {}
        """By group, for the call that is running."""
        self.first: Call | None = None
        """The last call that brought prompts, and its layout."""
        self.layout: Layout | None = None
        self.n_columns = 0
        """Columns of the last call without a cache."""


@dataclass(kw_only=True, eq=False)
class _Injection:
    """What one `inject` knows while it lasts."""

    groups: tuple[Group, ...]
    owners: tuple[int | None, ...] | None
    """For each item of the batch, the number of its vector; None where one vector is for all."""
    prompts: tuple[Prompt, ...] | None
    counts_padding: bool
    calls: _Calls = field(default_factory=_Calls)
    steps: dict[int, dict[int, Placed]] = field(default_factory=dict)
    """Plans of steps of generation, by number of rows: they are all alike."""
    cast: dict[tuple[int, torch.dtype, torch.device], Tensor] = field(default_factory=dict)
    """Values of a group in the type and on the device of its site."""
    reached: set[tuple[int, int]] = field(default_factory=set)
    """Group and entry of what was done at least once."""
    was_called: bool = False

    def is_active(self) -> bool:
        """Whether the context that runs has entered it."""
        return any(one is self for one in _active.get())

    def watch(self, call: Call | None) -> None:
        """Plan a call before it runs; forget the plan after it."""
        self.calls.plan = {}
        if call is None:
            return
        self.was_called = True
        if not call.n_cached:
            self.calls.plan = place_groups(self.groups, self.owners, self._layout(call))
            return
        if call.n_columns > 1:
            raise TaskVectorsError(
                f"a call brought {call.n_columns} tokens per row to {call.n_cached} cached ones: "
                "prompt and generated tokens cannot be told apart. Inside inject, give whole "
                "prompts in one call (no prefill_chunk_size, no cache of an earlier call), and "
                "generate without an assistant"
            )
        if call.n_rows not in self.steps:
            layout = generated_only(call.n_rows)
            self.steps[call.n_rows] = place_groups(self.groups, self.owners, layout)
        self.calls.plan = self.steps[call.n_rows]

    def rewrite(
        self, number: int, state: Float[Tensor, "row column width"]
    ) -> Float[Tensor, "row column width"]:
        """Do what the plan says of one group."""
        plan = self.calls.plan
        if number not in plan:
            return state
        placed = plan[number] = plan[number].to(state.device)
        group = self.groups[number]
        key = (number, state.dtype, state.device)
        if key not in self.cast:
            self.cast[key] = group.values.to(device=state.device, dtype=state.dtype)
        self.reached |= {(number, entry) for entry in placed.reached}
        values = self.cast[key].index_select(0, placed.entries)
        at = (placed.rows, placed.columns)
        if group.operation == "rotate":
            values = rotated(state[at], values)
        return state.index_put(at, values, accumulate=group.operation == "add")

    def check_reached(self) -> None:
        """Raise if something was not done even once."""
        missed = [
            site
            for number, group in enumerate(self.groups)
            for entry, site in enumerate(group.sites)
            if (number, entry) not in self.reached
        ]
        if missed and not self.was_called:
            raise TaskVectorsError(
                "the model was not called inside inject, so the vector did nothing; call "
                "`model.hf` or `model.hf.generate` inside the with block, and in its thread or in "
                "one that runs in a copy of its context"
            )
        if missed:
            raise TaskVectorsError(
                f"no call inside inject reached {', '.join(map(str, missed))}. Call the model with "
                "prompts inside (`generated` are the new tokens that the model reads, `answer` is "
                "what follows the prompt in a call), or leave the site out of the vector"
            )

    def _layout(self, call: Call) -> Layout:
        calls = self.calls
        if calls.layout is not None and self._goes_on(call):
            layout = with_generated(calls.layout, call.n_columns)
        else:
            prompts = None if self.prompts is None else per_row(self.prompts, call.n_rows)
            if prompts is None and self.owners is not None:
                _check_repeats(call, len(self.owners))
            layout = calls.layout = read_layout(call, prompts)
            calls.first = call
            self._warn_of_padding(call, layout)
        calls.n_columns = call.n_columns
        return layout

    def _warn_of_padding(self, call: Call, layout: Layout) -> None:
        if not self.counts_padding or call.position_ids is not None or layout.starts is None:
            return
        if bool((layout.starts > 0).any()):
            self.counts_padding = False  # said once
            logger.warning(
                "a call has padding on the left and no position ids, and this model counts the "
                "padding as positions, with a vector or without: what it computes is another "
                "prompt's. Pass position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0), or pad "
                "on the right"
            )

    def _goes_on(self, call: Call) -> bool:
        """Whether a call is the next step of a generation that caches nothing."""
        first = self.calls.first
        if first is None or first.token_ids is None or call.token_ids is None:
            return False
        if not (first.forbids_cache and call.forbids_cache and call.n_rows == first.n_rows):
            return False
        # beams change places, so only the prompts are the same
        return call.n_columns == self.calls.n_columns + 1 and torch.equal(
            call.token_ids[:, : first.n_columns], first.token_ids
        )


_active: ContextVar[tuple[_Injection, ...]] = ContextVar("active injections", default=())


def _check_repeats(call: Call, n_items: int) -> None:
    """Rows that share a vector, being beams of one prompt, are the same."""
    per_row(range(n_items), call.n_rows)
    if call.token_ids is None or call.n_rows == n_items:
        return
    by_item = call.token_ids.view(n_items, -1, call.n_columns)
    differs = (by_item != by_item[:, :1]).flatten(1).any(dim=1)
    if bool(differs.any()):
        raise TaskVectorsError(
            f"a call has {call.n_rows} rows for {n_items} vectors, and the rows of vector "
            f"{int(differs.int().argmax())} are different prompts; give one vector or None per row"
        )


def _prepare(
    model: LanguageModel,
    vector: TaskVector | Sequence[TaskVector | None],
    strength: float,
    prompts: Sequence[Prompt] | None,
) -> _Injection:
    """Check everything that can be checked before the first call."""
    items = [vector] if isinstance(vector, TaskVector) else list(vector)
    if not isinstance(vector, TaskVector) and prompts is not None and len(items) != len(prompts):
        raise TaskVectorsError(
            f"{len(items)} vectors and {len(prompts)} prompts were given; give one of each per row"
        )
    known = {id(item): item for item in items if item is not None}
    numbers = {key: number for number, key in enumerate(known)}
    owners = None
    if not isinstance(vector, TaskVector):
        owners = tuple(None if item is None else numbers[id(item)] for item in items)
    for item in known.values():
        item.check_model(model)
        for site in item.sites:
            check_site(model, site.layer, site.component)
        own = [
            (row, prompt)
            for row, prompt in enumerate(prompts or ())
            if item is (items[row] if owners is not None else vector)
        ]
        _check_positions(item, own if prompts is not None else None)
    return _Injection(
        groups=group_edits([item.edits(strength) for item in known.values()]),
        owners=owners,
        prompts=None if prompts is None else tuple(prompts),
        counts_padding=counts_padding(model),
    )


def _check_positions(vector: TaskVector, prompts: Sequence[tuple[int, Prompt]] | None) -> None:
    """Raise if a position is not known, or if one of the vector's prompts does not have it."""
    for position in vector.positions:
        is_known = isinstance(position, int) or position in WITHOUT_PROMPTS
        if prompts is None and not is_known:
            raise PositionError(
                f"where {position!r} is depends on the prompts: pass inject(..., prompts=...) with "
                f"one Prompt per row. Known without them are numbers, {', '.join(WITHOUT_PROMPTS)}"
            )
        if position in ("answer", "generated"):
            continue
        for row, prompt in prompts or ():
            try:
                resolve_positions(prompt, (position,))
            except PositionError as error:
                raise PositionError(f"row {row}: {error}") from error
