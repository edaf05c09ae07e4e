"""One plain run of the model, kept: what the branches share.

Each prompt is cut in two. Its prefix runs once and leaves keys and values; its suffix runs over
them with a cache that reads without storing, and leaves the residual stream before every block and
the arguments that the model itself passed to each block (rotary tables, position ids, masks).
Prefixes are padded on the left and suffixes on the right, so that all prompts are cut at the same
column.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.calls import arguments_by_name, cache_name
from taskvectors.models.interface import AttentionCall, watch_interface
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.runs import RunRequest, RunResult, Site
from taskvectors.models.sites import capture, takes_part, taking_part


@dataclass(frozen=True, kw_only=True)
class CutTokens:
    """Token ids of some prompts, cut at one column."""

    prefix: Int[Tensor, "prompt prefix"]
    prefix_lengths: Int[Tensor, " prompt"]
    """Prefix j of prompt i is a token where j >= prefix - prefix_lengths[i]."""
    suffix: Int[Tensor, "prompt suffix"]
    suffix_lengths: Int[Tensor, " prompt"]

    def __len__(self) -> int:
        """Number of prompts."""
        return self.suffix.shape[0]

    def rows(self, start: int, stop: int) -> "CutTokens":
        """A slice of the prompts."""
        return CutTokens(
            prefix=self.prefix[start:stop],
            prefix_lengths=self.prefix_lengths[start:stop],
            suffix=self.suffix[start:stop],
            suffix_lengths=self.suffix_lengths[start:stop],
        )

    @property
    def attention_mask(self) -> Bool[Tensor, "prompt key"]:
        """True where a column of prefix + suffix holds a token."""
        column = torch.arange(self.prefix.shape[1], device=self.prefix.device)
        left = column >= self.prefix.shape[1] - self.prefix_lengths[:, None]
        right = (
            torch.arange(self.suffix.shape[1], device=self.suffix.device)
            < self.suffix_lengths[:, None]
        )
        return torch.cat([left, right], dim=1)


@dataclass(kw_only=True)
class LayerRecord:
    """What one block left behind."""

    entered: Float[Tensor, "prompt suffix d_model"]
    """`resid_pre` of the suffix."""
    keys: Float[Tensor, "prompt kv_head prefix d_head"] | None
    values: Float[Tensor, "prompt kv_head prefix d_value"] | None
    mask: Float[Tensor, "prompt suffix key"] | None
    """0 where a suffix token may look, -inf where not; shared by layers with the same mask."""
    arguments: Mapping[str, Any]
    """The other arguments of the block, by name; tensors start with the prompt axis."""


@dataclass(kw_only=True)
class Recording:
    """A plain run of some prompts: one record per layer, and the final residual stream."""

    layers: list[LayerRecord]
    final: Float[Tensor, "prompt suffix d_model"]
    """`resid_post` of the last block."""
    sites: dict[Site, Float[Tensor, "prompt suffix width"]]
    """What was read at further sites."""
    model: LanguageModel

    def residual(self, layer: int) -> Float[Tensor, "prompt suffix d_model"]:
        """`resid_post` of a layer; -1 is the layer below block 0."""
        return self.final if layer + 1 == len(self.layers) else self.layers[layer + 1].entered

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept."""
        yield self.final
        yield from self.sites.values()
        for layer in self.layers:
            kept = [layer.entered, layer.keys, layer.values, layer.mask, *layer.arguments.values()]
            for value in kept:
                parts = value if isinstance(value, tuple) else (value,)
                yield from (part for part in parts if isinstance(part, Tensor))

    def run(self, request: RunRequest) -> RunResult:
        """Run branches; see `replay.run_branches`."""
        from taskvectors.models.replay import run_branches

        return run_branches(self, request)


def record(model: LanguageModel, tokens: CutTokens, *, sites: Sequence[Site] = ()) -> Recording:
    """Run some prompts once and keep what branches share.

    Args:
        model: The model.
        tokens: The prompts, cut.
        sites: Further sites to read at the suffix.
    """
    from transformers import DynamicCache

    if model.structure.final is None:
        raise UnsupportedModelError(
            f"the logits of {model.source} are not made from its last block alone."
        )
    visible = tokens.attention_mask
    width = tokens.prefix.shape[1]
    position = (visible.long().cumsum(dim=1) - 1).clamp(min=0)
    entered: list[Tensor] = []
    calls: list[dict[str, Any]] = []
    read: dict[Site, Tensor] = {}
    before, after = _AttentionCalls.of(model), _AttentionCalls.of(model)
    cache: Any = None
    with torch.no_grad(), ExitStack() as stack:
        if width:
            cache = DynamicCache()  # without a config: every layer keeps every position
            with before.watched():
                model.body(
                    input_ids=tokens.prefix,
                    attention_mask=visible[:, :width].long(),
                    position_ids=position[:, :width],
                    use_cache=True,
                    **{cache_name(model): cache},
                )
            make_read_only(cache)
        stack.enter_context(after.watched())
        for block in model.blocks:
            stack.enter_context(_recording_call(block, entered, calls))
        for layer, component in sites:
            keep: Callable[[Tensor], None] = partial(read.__setitem__, (layer, component))
            stack.enter_context(capture(model, layer, component, keep))
        final: list[Tensor] = []
        stack.enter_context(capture(model, model.n_layers - 1, "resid_post", final.append))
        model.body(
            input_ids=tokens.suffix,
            attention_mask=visible.long(),
            position_ids=position[:, width:],
            use_cache=cache is not None,
            **{cache_name(model): cache},
        )
    masks: dict[int, Tensor | None] = {}
    layers = []
    for layer, call in enumerate(calls):
        call.pop("attention_mask", None)  # the branches' attention has its own
        given = after.by_layer[layer].mask
        shared = before.by_layer.get(layer)
        if id(given) not in masks:
            masks[id(given)] = additive_mask(given, tokens, width)
        layers.append(
            LayerRecord(
                entered=entered[layer],
                keys=None if shared is None else shared.key,
                values=None if shared is None else shared.value,
                mask=masks[id(given)],
                arguments=without_cache(call),
            )
        )
    return Recording(layers=layers, final=final[0], sites=read, model=model)


@dataclass(kw_only=True)
class _AttentionCalls:
    """What each block passes to the attention interface, once in a pass."""

    model: LanguageModel
    layers: Mapping[int, int]
    """Layer by the identity of its attention module."""
    by_layer: dict[int, AttentionCall]

    @classmethod
    def of(cls, model: LanguageModel) -> "_AttentionCalls":
        """Nothing seen yet."""
        layers = {id(model.part(layer, "attention")): layer for layer in range(model.n_layers)}
        return cls(model=model, layers=layers, by_layer={})

    def watched(self) -> AbstractContextManager[None]:
        """See the calls of a pass while inside."""
        return watch_interface(self.model.attention_configs, self._keep)

    def _keep(self, call: AttentionCall) -> None:
        layer = self.layers[id(call.module)]
        if layer in self.by_layer:
            raise UnsupportedModelError(
                f"attention of layer {layer} of {self.model.source} is called twice in a pass."
            )
        self.by_layer[layer] = call


def make_read_only(cache: Any) -> None:
    """Let a filled cache answer with its keys and the new ones together, and store nothing more.

    A cache of one row answers for any number of rows.
    """
    for layer in cache.layers:
        layer.update = partial(_with_new, layer)


def _with_new(held: Any, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    keys, values = (kept.expand(len(key), -1, -1, -1) for kept in (held.keys, held.values))
    return torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)


def _recording_call(block: Any, entered: list[Tensor], calls: list[dict[str, Any]]) -> Any:
    """A hook that notes a block's input and its arguments, by name in every family."""
    token = object()
    hook = partial(_note, token, inspect.signature(block.forward), entered, calls)
    return taking_part((token, block.register_forward_pre_hook(hook, with_kwargs=True)))


def _note(
    token: object,
    signature: inspect.Signature,
    entered: Any,  # a list of states; not typed, since tests look into what is typed at every call,
    calls: Any,  # also at one of another thread, while the thread that records fills the lists
    _: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
) -> None:
    # torch forgets that a hook wants keyword arguments if a thread is removing it
    if kwargs is None or not takes_part(token):
        return
    named = arguments_by_name(signature, args, kwargs)
    entered.append(named.pop(next(iter(signature.parameters))))  # the state comes first
    calls.append(named)


def without_cache(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A block's arguments with no cache, whatever the family calls it."""
    from transformers import Cache

    return {
        name: value
        for name, value in arguments.items()
        if not isinstance(value, Cache) and name != "use_cache"
    }


def additive_mask(
    given: Tensor | None, tokens: CutTokens, prefix: int
) -> Float[Tensor, "prompt suffix key"] | None:
    """The mask the model passed to its blocks, as 0 and -inf; None where everything may be seen.

    The model's own is bool with sdpa, additive with eager attention, and None for "plain causal".
    """
    suffix = tokens.suffix.shape[1]
    if given is None:
        if suffix == 1:
            return None
        seen = torch.ones(1, suffix, prefix + suffix, dtype=torch.bool, device=tokens.suffix.device)
        allowed = seen.tril(diagonal=prefix).expand(len(tokens), -1, -1)
    else:
        seen = given if given.dtype == torch.bool else given > torch.finfo(given.dtype).min / 2
        allowed = seen[:, 0, -suffix:, : prefix + suffix].expand(len(tokens), -1, -1)
    if bool(allowed.all()):
        return None
    # a padded suffix column may see nothing; it looks at itself so that its softmax is finite
    own = torch.zeros_like(allowed)
    own[:, :, prefix:] = torch.eye(suffix, dtype=torch.bool, device=allowed.device)
    zero = torch.zeros(allowed.shape, device=allowed.device)
    return zero.masked_fill(~(allowed | own), -torch.inf)
