"""Full passes with hooks, for models whose branches cannot be replayed block by block.

Two engines. `cached`: the tokens before the first edit run once, and every branch goes on with its
own copy of the model's own cache. `whole`: nothing is shared, and every branch runs its prompts
from the first token on. Nothing is ever padded, since some models are wrong where it is: prompts
that are equally long run together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.calls import CACHE_NAMES, cache_name, run_body
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.recording import CutTokens
from taskvectors.models.runs import RunRequest, RunResult, Site, TokenIndex
from taskvectors.models.sites import EMBED, capture, patch


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Prompts that run together."""

    prompts: Int[Tensor, " prompt"]
    tokens: Int[Tensor, "prompt column"]
    """What a branch runs: the suffix, or the whole prompt; all of one length."""
    starts: Int[Tensor, " prompt"]
    """The column of each prompt's first suffix token."""
    cache: Any
    """The model's own, filled with the prefix; None where nothing comes before."""


@dataclass(kw_only=True, eq=False)
class Passes:
    """Prompts that ran once, plain, and what branches of them go on from."""

    model: LanguageModel
    groups: Sequence[_Group]
    states: dict[int, Float[Tensor, "prompt suffix d_model"]]
    """Plain `resid_post` by layer."""
    sites: dict[Site, Float[Tensor, "prompt suffix width"]]

    def residual(self, layer: int) -> Float[Tensor, "prompt suffix d_model"]:
        """Plain `resid_post` of a layer; -1 is the layer below block 0."""
        return self.states[layer]

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept."""
        yield from (*self.states.values(), *self.sites.values())
        for group in self.groups:
            yield group.tokens
            yield from tensors_of(group.cache)

    def run(self, request: RunRequest) -> RunResult:
        """Run branches; differentiable in what the changes put in."""
        n_branches, packing = len(request.starts), request.packing
        asked = self._asked(request.rows)
        parts: list[tuple[Tensor, dict[Site, Tensor]]] = []
        order = []
        for group, (places, members) in zip(self.groups, asked, strict=True):
            if not len(places):
                continue
            order.append(places)
            parts.append(self._run_group(group, members, request))
        back = torch.cat(order).argsort()
        first = parts[0][0]
        states = torch.cat([part[0].to(first.device) for part in parts]).index_select(0, back)
        read = {
            site: torch.cat([part[1][site] for part in parts]).index_select(0, back)
            for site in request.sites
        }
        assert states.shape[:3] == (packing.n_rows, n_branches, packing.suffix)
        return RunResult(states=states, read=read)

    def _asked(self, rows: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each group: places among the rows that run, and which of its prompts they are."""
        for group in self.groups:
            if rows is None:
                yield group.prompts, torch.arange(len(group.prompts), device=group.prompts.device)
            else:
                asked, members = (rows[:, None] == group.prompts).nonzero().unbind(dim=1)
                yield asked, members

    def _run_group(
        self, group: _Group, members: Tensor, request: RunRequest
    ) -> tuple[Tensor, dict[Site, Tensor]]:
        n_branches, suffix = len(request.starts), request.packing.suffix
        starts = group.starts.index_select(0, members)
        n_columns = min(int(starts.max()) + suffix, group.tokens.shape[1])
        tokens = group.tokens.index_select(0, members)[:, :n_columns].repeat(n_branches, 1)
        index = TokenIndex(
            rows=group.prompts.index_select(0, members),
            n_tokens=len(members) * n_columns,
            offsets=torch.arange(len(members), device=starts.device) * n_columns + starts,
        )
        read: dict[Site, Tensor] = {}
        with ExitStack() as stack:
            for layer in range(EMBED, self.model.n_layers):
                for component in request.changes.at(layer):
                    change = partial(request.changes.apply, (layer, component), index=index)
                    stack.enter_context(patch(self.model, layer, component, change))
            for site in request.sites:
                keep: Callable[[Tensor], None] = partial(read.__setitem__, site)
                stack.enter_context(capture(self.model, *site, keep))
            cache = _copied(group, members.repeat(n_branches))
            stack.enter_context(_saved_apart(cache))
            states = _run(self.model, tokens, cache)
        column = starts[:, None] + torch.arange(suffix, device=starts.device)
        # of a prompt that is shorter than others, columns behind its last token are never read
        column = column.clamp(max=n_columns - 1).repeat(n_branches, 1)

        def by_row(state: Tensor) -> Tensor:
            at_suffix = state.gather(1, column.unsqueeze(-1).expand(-1, -1, state.shape[-1]))
            by_branch = at_suffix.view(n_branches, len(members), *at_suffix.shape[1:])
            return by_branch.transpose(0, 1)

        return by_row(states), {site: by_row(state) for site, state in read.items()}


def prepare_passes(
    model: LanguageModel,
    tokens: CutTokens,
    *,
    shares_prefix: bool,
    sites: Sequence[Site] = (),
) -> Passes:
    """Run some prompts once, plain.

    Args:
        model: The model.
        tokens: The prompts, cut.
        shares_prefix: Whether the prefix is kept in the model's own cache (`cached`), or runs anew
            with every branch (`whole`).
        sites: Further sites to read at the suffix.
    """
    groups = list(_groups(model, tokens, shares_prefix=shares_prefix))
    layers = range(EMBED, model.n_layers)
    wanted: list[Site] = [*((layer, "resid_post") for layer in layers), *sites]
    kept: dict[Site, list[Tensor]] = {site: [] for site in wanted}
    for group in groups:
        every = torch.arange(len(group.prompts), device=group.prompts.device)
        read: dict[Site, Tensor] = {}
        with torch.no_grad(), ExitStack() as stack:
            for site in wanted:
                keep: Callable[[Tensor], None] = partial(read.__setitem__, site)
                stack.enter_context(capture(model, *site, keep))
            _run(model, group.tokens, _copied(group, every))
        columns = torch.arange(tokens.suffix.shape[1], device=every.device)
        column = (group.starts[:, None] + columns).clamp(max=group.tokens.shape[1] - 1)
        for site, state in read.items():
            kept[site].append(state.gather(1, column.unsqueeze(-1).expand(-1, -1, state.shape[-1])))
    back = torch.cat([group.prompts for group in groups]).argsort()
    found = {site: torch.cat(parts).index_select(0, back) for site, parts in kept.items()}
    return Passes(
        model=model,
        groups=groups,
        states={layer: found[layer, "resid_post"] for layer in layers},
        sites={site: found[site] for site in sites},
    )


def _groups(model: LanguageModel, tokens: CutTokens, *, shares_prefix: bool) -> Iterator[_Group]:
    """Prompts whose prefixes and suffixes are equally long, or whose whole length is the same."""
    width = tokens.prefix.shape[1]
    lengths = torch.stack([tokens.prefix_lengths, tokens.suffix_lengths], dim=1)
    if not shares_prefix:
        lengths = lengths.sum(dim=1, keepdim=True)
        both = torch.cat([tokens.prefix, tokens.suffix], dim=1)
        column = torch.arange(both.shape[1], device=both.device)
        column = column + (width - tokens.prefix_lengths).unsqueeze(1)
        whole = both.gather(1, column.clamp(max=both.shape[1] - 1))
    for found in torch.unique(lengths, dim=0):
        prompts = (lengths == found).all(dim=1).nonzero().flatten()
        if not shares_prefix:
            yield _Group(
                prompts=prompts,
                tokens=whole.index_select(0, prompts)[:, : int(found[0])],
                starts=tokens.prefix_lengths.index_select(0, prompts),
                cache=None,
            )
            continue
        before, after = found.tolist()
        prefix = tokens.prefix.index_select(0, prompts)[:, width - before :]
        yield _Group(
            prompts=prompts,
            tokens=tokens.suffix.index_select(0, prompts)[:, :after],
            starts=torch.zeros_like(prompts),
            cache=_filled(model, prefix) if before else None,
        )


def _filled(model: LanguageModel, tokens: Int[Tensor, "prompt prefix"]) -> Any:
    """The model's own cache after some tokens."""
    with torch.no_grad():
        out = model.body(input_ids=tokens, use_cache=True)
    found = next((out[name] for name in CACHE_NAMES if out.get(name) is not None), None)
    if found is None:
        raise UnsupportedModelError(f"{model.source} gives no cache that could be gone on from.")
    return found


def _run(model: LanguageModel, tokens: Int[Tensor, "row column"], cache: Any) -> Tensor:
    """Run a model without its unembedding, over what a cache holds."""
    given = {} if cache is None else {cache_name(model): cache}
    return run_body(model, input_ids=tokens, use_cache=cache is not None, **given)


def _copied(group: _Group, members: Int[Tensor, " row"]) -> Any:
    """A cache of some of a group's prompts, in this order, that nothing else writes to."""
    return None if group.cache is None else _rows_of(group.cache, len(group.prompts), members, {})


def _saved_apart(cache: Any) -> AbstractContextManager[None]:
    """Save copies of a cache's tensors for the backward pass: models write new states over them."""
    held = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(cache)}

    def pack(tensor: Tensor) -> tuple[Tensor, int]:
        if tensor.untyped_storage().data_ptr() in held:
            tensor = tensor.clone()
        return tensor, tensor._version

    def unpack(saved: tuple[Tensor, int]) -> Tensor:
        tensor, version = saved
        if tensor._version != version:  # torch itself does not look where there are hooks
            raise RuntimeError("a tensor that the backward pass needs was written over")
        return tensor

    # torch's own context, as its stubs have it, is not typed
    return torch.autograd.graph.saved_tensors_hooks(pack, unpack) if held else nullcontext()


def _rows_of(value: Any, n_held: int, rows: Tensor, done: dict[int, Any]) -> Any:
    """The rows of everything with a row per prompt in a nest of caches, layers and lists."""
    if id(value) in done:
        return done[id(value)]
    copied: Any = value
    if isinstance(value, Tensor):
        has_rows = value.dim() > 1 and value.shape[0] == n_held
        copied = value.index_select(0, rows.to(value.device)) if has_rows else value.clone()
    elif isinstance(value, (list, tuple)):
        copied = type(value)([_rows_of(part, n_held, rows, done) for part in value])
    elif isinstance(value, dict):
        copied = {name: _rows_of(part, n_held, rows, done) for name, part in value.items()}
    elif _is_cache(value):
        copied = object.__new__(type(value))
        done[id(value)] = copied
        for name, part in vars(value).items():
            copied.__dict__[name] = _rows_of(part, n_held, rows, done)
    done[id(value)] = copied
    return copied


def _is_cache(value: Any) -> bool:
    """Whether something is a cache, or a layer of one: what holds tensors and is no module."""
    kind = type(value)
    is_its_own = "cache" in kind.__name__.lower() or kind.__module__.endswith("cache_utils")
    return is_its_own and hasattr(value, "__dict__")


def tensors_of(value: Any) -> Iterable[Tensor]:
    """All tensors in a nest of caches, layers and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_of(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_of(part)
    elif _is_cache(value):
        yield from tensors_of(vars(value))
