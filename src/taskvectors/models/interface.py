"""transformers' attention interface: what each attention module passes to it, seen or answered.

Nearly every model of transformers hands queries, keys and values to a function that is looked up
by a name in its config. While inside one of the contexts here, that name is one of ours.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

_SEEN = "taskvectors_seen_"
"""What the name of the model's own implementation is preceded by while it is answered here."""


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


Attend = Callable[..., tuple[Tensor, Any]]
_ANSWER: ContextVar[Attend | None] = ContextVar("taskvectors_attend", default=None)
_renaming = threading.Lock()
_renamed: dict[int, tuple[str | None, int]] = {}
"""By a config's identity: its implementation before, and how many contexts are inside."""


def own_implementation(config: Any) -> str:
    """The name of a config's attention implementation, also while it is answered here."""
    with _renaming:
        own, _ = _renamed.get(id(config), (config._attn_implementation, 0))
    return str(own)


@contextmanager
def _answered(configs: list[Any]) -> Iterator[None]:
    """Attention of some configs comes to `_attend` while inside, in whatever thread it is called.

    What does not concern the context that calls is answered as the model itself would.
    """
    with _renaming:
        for config in configs:
            own, n_inside = _renamed.get(id(config), (config._attn_implementation, 0))
            _renamed[id(config)] = own, n_inside + 1
            # the setter of the public name would write to the configs inside this one too
            config._attn_implementation_internal = _name_of(own or "eager")
    try:
        yield
    finally:
        with _renaming:
            for config in configs:
                own, n_inside = _renamed.pop(id(config))
                if n_inside > 1:
                    _renamed[id(config)] = own, n_inside - 1
                else:
                    config._attn_implementation_internal = own


@contextmanager
def answering(configs: list[Any], attend: Attend) -> Iterator[None]:
    """Let `attend` answer for the attention of some configs while inside, in this context alone."""
    token = _ANSWER.set(attend)
    try:
        with _answered(configs):
            yield
    finally:
        _ANSWER.reset(token)


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
        with _answered(configs):
            yield
    finally:
        _WATCH.reset(token)


def _name_of(own: str) -> str:
    """The name under which `_attend` stands for an implementation, with the masks of that one."""
    from transformers import AttentionInterface, AttentionMaskInterface

    name = _SEEN + own
    AttentionInterface.register(name, partial(_attend, own))
    masks = AttentionMaskInterface()  # type: ignore[no-untyped-call]
    if own in masks:
        AttentionMaskInterface.register(name, masks[own])
    return name


def _attend(
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

    answer = _ANSWER.get()
    if answer is not None:
        return answer(module, query, key, value, attention_mask, *args, **kwargs)
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
