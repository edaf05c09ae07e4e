"""transformers' attention interface: what each attention module passes to it, seen or answered.

Nearly every model of transformers hands queries, keys and values to a function that is looked up
by a name in its config. While inside one of the contexts here, that name is one of ours.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

_SEEN = "taskvectors_seen_"
"""What the name of the model's own implementation is preceded by while it is watched."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionCall:
    """One call of the attention interface."""

    module: nn.Module
    query: Float[Tensor, "batch head pos d_key"]
    key: Float[Tensor, "batch kv_head key d_key"]
    value: Float[Tensor, "batch kv_head key d_value"]
    mask: Tensor | None
    """The model's own: bool with sdpa, additive with eager, None for "plain causal"."""
    output: Float[Tensor, "batch pos head d_value"]


_WATCH: ContextVar[Callable[[AttentionCall], None] | None] = ContextVar(
    "taskvectors_watch_interface", default=None
)


def attention_configs(root: nn.Module) -> list[Any]:
    """All configs of the modules of a model that name an attention implementation."""
    configs = (getattr(module, "config", None) for module in root.modules())
    found = {id(config): config for config in configs if hasattr(config, "_attn_implementation")}
    return list(found.values())


@contextmanager
def implementation(configs: list[Any], name: Callable[[str], str]) -> Iterator[None]:
    """Rename the attention implementation of some configs while inside."""
    before = [config._attn_implementation for config in configs]
    for config, own in zip(configs, before, strict=True):
        # the setter of the public name would write to the configs inside this one too
        config._attn_implementation_internal = name(own or "eager")
    try:
        yield
    finally:
        for config, own in zip(configs, before, strict=True):
            config._attn_implementation_internal = own


@contextmanager
def plain_experts(configs: list[Any]) -> Iterator[None]:
    """Let mixtures of experts of some configs compute with plain matrix products while inside.

    Grouped products, which transformers prefers, have no forward-mode derivative in torch.
    """
    name = "_experts_implementation_internal"
    before = [(config, own) for config in configs if (own := getattr(config, name, None))]
    for config, _ in before:
        setattr(config, name, "eager")
    try:
        yield
    finally:
        for config, own in before:
            setattr(config, name, own)


@contextmanager
def watch_interface(configs: list[Any], watch: Callable[[AttentionCall], None]) -> Iterator[None]:
    """Show every call of the attention interface to `watch`; attention itself stays as it is."""
    token = _WATCH.set(watch)
    try:
        with implementation(configs, _watched):
            yield
    finally:
        _WATCH.reset(token)


def _watched(own: str) -> str:
    """The name under which an implementation is watched; it makes the masks that `own` makes."""
    from transformers import AttentionInterface, AttentionMaskInterface

    name = _SEEN + own
    AttentionInterface.register(name, partial(_attend_watched, own))
    masks = AttentionMaskInterface()  # type: ignore[no-untyped-call]
    if own in masks:
        AttentionMaskInterface.register(name, masks[own])
    return name


def _attend_watched(
    own: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    from transformers import AttentionInterface

    # eager attention is a function of the module's own file
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    interface: Any = AttentionInterface()  # type: ignore[no-untyped-call]
    attend = interface.get_interface(own, eager)
    result = attend(module, query, key, value, attention_mask, *args, **kwargs)
    watch = _WATCH.get()
    if watch is not None:
        watch(
            AttentionCall(
                module=module,
                query=query,
                key=key,
                value=value,
                mask=attention_mask,
                output=result[0],
            )
        )
    return result
