"""Run one block again for the branches, with the arguments that the model passed to it.

The only difference to the model's own call: the suffix tokens of all prompts lie side by side, once
per branch, so whatever is aligned with them is gathered in that order, and attention is the
branches' own (`attention.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from taskvectors.models.attention import SharedContext, branching, sharing
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.packing import Packing
from taskvectors.models.recording import Recording
from taskvectors.models.runs import RunRequest, RunResult, Site, TokenIndex, in_order
from taskvectors.models.sites import EMBED, Component, Rewrite, capture, patch


def run_branches(recording: Recording, request: RunRequest) -> RunResult:
    """Run branches through the blocks above their first change, each from where it starts.

    Args:
        recording: The plain run of the prompts.
        request: The branches; sorted by where they start.
    """
    model, packing, changes = recording.model, request.packing, request.changes
    selection = Selection(recording=recording, rows=request.rows, packing=packing)
    index = TokenIndex(rows=request.rows, n_tokens=packing.n_tokens, offsets=packing.offsets)
    read: dict[Site, Tensor] = {}
    state, n_active = torch.empty(0), 0
    first = max(EMBED, min(request.starts, default=model.n_layers - 1))
    with branching(model.attention_configs), ExitStack() as stack:
        for layer, component in request.sites:
            keep: Callable[[Tensor], None] = partial(read.__setitem__, (layer, component))
            stack.enter_context(capture(model, layer, component, keep))
        for layer in range(first, model.n_layers):
            if n_active:
                inside = [
                    (component, partial(changes.apply, (layer, component), index=index))
                    for component in changes.at(layer)
                    if component != "resid_post"
                ]
                state = replay_block(
                    model, layer, selection, state, n_branches=n_active, rewrites=inside
                )
            joining = sum(start == layer for start in request.starts)
            if joining:
                start = selection.packed(recording.residual(layer))
                new = start.repeat(joining, 1).unsqueeze(0)
                state = torch.cat([state.to(new.device), new], dim=1) if n_active else new
                n_active += joining
            if n_active and "resid_post" in changes.at(layer):
                state = changes.apply((layer, "resid_post"), state, index=index)
    shape = (len(request.starts), packing.n_tokens, -1)
    return RunResult(
        states=in_order(state.view(shape), packing),
        read={site: in_order(value.view(shape), packing) for site, value in read.items()},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The prompts of a recording that run, and how their tokens lie.

    What several layers share (masks, rotary tables) is gathered once.
    """

    recording: Recording
    rows: Int[Tensor, " row"] | None
    """Prompts of the recording; None for all of them in order."""
    packing: Packing
    _gathered: dict[tuple[int, int], Any] = field(default_factory=dict)

    def packed(self, padded: Shaped[Tensor, "prompt suffix ..."]) -> Shaped[Tensor, "token ..."]:
        """The tokens that run, of something that holds all prompts' suffixes."""
        chosen = self._of_rows(padded)
        return self.packing.pack(chosen[:, : self.packing.suffix])

    def context(self, layer: int, n_branches: int) -> SharedContext:
        """What the branches' attention shares at a layer."""
        record = self.recording.layers[layer]
        mask = record.mask
        if mask is not None:
            mask = self._once(mask, 0, self._mask)
        return SharedContext(
            layer=layer,
            keys=None if record.keys is None else self._of_rows(record.keys),
            values=None if record.values is None else self._of_rows(record.values),
            mask=mask,
            packing=self.packing,
            n_branches=n_branches,
        )

    def arguments(self, layer: int, n_branches: int) -> dict[str, Any]:
        """A block's arguments for all branches side by side."""
        record = self.recording.layers[layer]
        prompts, suffix = record.entered.shape[:2]
        return {
            name: self._aligned(value, prompts, suffix, n_branches)
            for name, value in record.arguments.items()
        }

    def _aligned(self, value: Any, prompts: int, suffix: int, n_branches: int) -> Any:
        """An argument in the order of the packed tokens, where it has one entry per token."""
        if isinstance(value, tuple):
            return tuple(self._aligned(part, prompts, suffix, n_branches) for part in value)
        if not isinstance(value, Tensor):
            return value
        if value.dim() >= 2 and value.shape[1] == suffix and value.shape[0] in (1, prompts):
            return self._once(value, n_branches, self._tiled, prompts, n_branches)
        return value

    def _of_rows(self, value: Tensor) -> Tensor:
        return value if self.rows is None else value.index_select(0, self.rows.to(value.device))

    def _mask(self, mask: Tensor) -> Tensor:
        dropped = mask.shape[1] - self.packing.suffix
        return self._of_rows(mask)[:, : self.packing.suffix, : mask.shape[2] - dropped]

    def _tiled(self, value: Tensor, prompts: int, n_branches: int) -> Tensor:
        if value.shape[0] != prompts:
            value = value.expand(prompts, *value.shape[1:])
        return torch.cat([self.packed(value)] * n_branches).unsqueeze(0)

    def _once(self, value: Tensor, kind: int, make: Any, *about: Any) -> Tensor:
        key = (id(value), kind)  # the recording holds the value as long as this lives
        if key not in self._gathered:
            self._gathered[key] = make(value, *about)
        found: Tensor = self._gathered[key]
        return found


def replay_block(
    model: LanguageModel,
    layer: int,
    selection: Selection,
    state: Float[Tensor, "1 token d_model"],
    *,
    n_branches: int,
    rewrites: Sequence[tuple[Component, Rewrite]] = (),
) -> Float[Tensor, "1 token d_model"]:
    """`resid_post` of one block for branches that lie side by side on the token axis.

    Args:
        model: The model; call inside `attention.branching`.
        layer: The block.
        selection: The prompts that run, of a recording.
        state: `resid_pre` of the branches; token = branch * n_tokens + packed token.
        n_branches: How many branches there are.
        rewrites: What to change inside the block, by site.
    """
    with ExitStack() as stack:
        stack.enter_context(sharing(selection.context(layer, n_branches)))
        for component, rewrite in rewrites:
            stack.enter_context(patch(model, layer, component, rewrite))
        output = model.blocks[layer](state, **selection.arguments(layer, n_branches))
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result
