"""Sites: where a forward pass is read and edited, and the hooks that do it.

A site is a component of one block. The names are the field's: `resid_pre` and `resid_post` (the
residual stream before and after a block), `resid_mid` (after attention), `attn_out` and `mlp_out`
(what attention and the MLP add to it), `z` (the heads' outputs before W_O, side by side). `EMBED`
is the layer below block 0: its `resid_post` is what block 0 reads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.structure import Part

Component = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z"]
COMPONENTS: tuple[Component, ...] = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
)
EMBED = -1
"""The layer below block 0."""

_PARTS: dict[Component, Part] = {
    "resid_mid": "attention_output",
    "attn_out": "attention_output",
    "mlp_out": "mlp_output",
    "z": "output_projection",
}
"""The part of a block that a site is the output of; W_O's input for `z`."""

Rewrite = Callable[[Float[Tensor, "batch pos width"]], Float[Tensor, "batch pos width"]]

Found = TypeVar("Found")
_Hook = tuple[object, torch.utils.hooks.RemovableHandle]
"""A token that a hook asks for, and its handle."""
_entered: ContextVar[frozenset[object]] = ContextVar("taskvectors_entered", default=frozenset())
"""The hooks that were entered in this context: those of other threads and tasks pass it by."""


def check_site(model: LanguageModel, layer: int, component: Component) -> None:
    """Raise if a model has no such site.

    Raises: UnsupportedModelError: No such layer, or nothing between attention and MLP in parallel
        blocks.
    """
    lowest = EMBED if component == "resid_post" else 0
    if not lowest <= layer < model.n_layers:
        raise UnsupportedModelError(
            f"{component} of layer {layer} does not exist: {model.source} has layers {lowest} to "
            f"{model.n_layers - 1} there ({EMBED} is 'embed')."
        )
    if component == "resid_mid" and model.parts(layer).is_parallel:
        raise UnsupportedModelError(
            f"resid_mid does not exist in {model.source}: its attention and MLP run in parallel. "
            "Use resid_post, attn_out or mlp_out."
        )
    if component in _PARTS:
        model.part(layer, _PARTS[component])


def apart(work: Callable[[], Found]) -> Found:
    """What `work` gives when no edit or capture takes part that was entered outside of it."""
    return Context().run(work)


@contextmanager
def taking_part(*handles: _Hook) -> Iterator[None]:
    """Hooks take part in what this context calls while inside, and are gone after.

    Args:
        handles: Of each hook the token that it asks for by `takes_part`, and its handle.
    """
    tokens = {token for token, _ in handles}
    _entered.set(_entered.get() | tokens)
    try:
        yield
    finally:
        _entered.set(_entered.get() - tokens)  # no reset: a generator may end in another context
        for _, handle in handles:
            handle.remove()


def takes_part(token: object) -> bool:
    """Whether a hook was entered in the context of this call."""
    return token in _entered.get()


def width_of(model: LanguageModel, layer: int, component: Component) -> int:
    """Width of a site: d_model, or n_heads * d_head for `z`."""
    if component != "z":
        return model.d_model
    heads = model.heads(layer)
    return heads.n_heads * heads.d_head


@contextmanager
def patch(
    model: LanguageModel, layer: int, component: Component, rewrite: Rewrite
) -> Iterator[None]:
    """Pass what the model computes at a site through `rewrite` while inside; hooks are gone after.

    `rewrite` receives `[batch, pos, width]` and returns the same shape; it may return its input.
    """
    check_site(model, layer, component)
    with taking_part(*_register(model, layer, component, rewrite)):
        yield


def _register(
    model: LanguageModel, layer: int, component: Component, rewrite: Rewrite
) -> list[_Hook]:
    if component in {"resid_pre", "resid_post"}:
        if model.structure.n_streams > 1:
            rewrite = partial(_side_by_side, model.structure.stream_axis, rewrite)
        if component == "resid_pre" or layer == EMBED:
            return [_on_input(model.blocks[max(layer, 0)], rewrite)]
        return [_on_output(model.blocks[layer], rewrite)]
    part = model.part(layer, _PARTS[component])
    if component == "z":
        return [_on_input(part, rewrite)]
    entered = _Entered()
    scale = model.parts(layer).residual_scale
    return [
        _on_input(model.blocks[layer], partial(_shown_to, entered.push)),
        _on_output(part, partial(_in_rows, component, scale, rewrite, entered)),
    ]


def _side_by_side(axis: int, rewrite: Rewrite, state: Tensor) -> Tensor:
    """A state of several streams, rewritten as one with all of them side by side."""
    by_token = state.movedim(axis, 2)  # [batch, pos, stream, width]
    return rewrite(by_token.flatten(2)).view(by_token.shape).movedim(2, axis)


class _Entered(threading.local):
    """What a block was given, until its part has run; each thread's calls have their own."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []

    def push(self, state: Tensor) -> None:
        """Keep what a block was given."""
        self.states.append(state)


def _in_rows(
    component: Component, scale: float, rewrite: Rewrite, entered: _Entered, out: Tensor
) -> Tensor:
    """What a part of a block gives, rewritten."""
    if not entered.states:  # another thread's call, which was past the block's input already
        return out
    before = entered.states.pop()  # OPT's MLP works on [batch * pos, d_model]
    rows = out.view(*before.shape[:-1], out.shape[-1])
    if scale != 1:
        rows = rows * scale
    state = rows + before if component == "resid_mid" else rows
    changed = rewrite(state)
    if changed is state:  # adding and taking away again would round
        return out
    changed = changed - before if component == "resid_mid" else changed
    return (changed if scale == 1 else changed / scale).view(out.shape)


def _shown_to(keep: Callable[[Tensor], None], state: Tensor) -> Tensor:
    keep(state)
    return state


# Hooks are partial functions, not functions within functions: tests check the shapes of every
# function, and make the check anew for each function that is made.


def _on_input(module: nn.Module, rewrite: Rewrite) -> _Hook:
    token = object()
    hook = partial(_rewrite_input, rewrite, token)
    return token, module.register_forward_pre_hook(hook, with_kwargs=True)


def _rewrite_input(
    rewrite: Rewrite,
    token: object,
    _: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    # torch forgets that a hook wants keyword arguments if a thread is removing it
    if kwargs is None or not takes_part(token):
        return None
    if args:
        return (rewrite(args[0]), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": rewrite(kwargs["hidden_states"])}


def _on_output(module: nn.Module, rewrite: Rewrite) -> _Hook:
    token = object()
    return token, module.register_forward_hook(partial(_rewrite_output, rewrite, token))


def _rewrite_output(rewrite: Rewrite, token: object, _: nn.Module, __: Any, output: Any) -> Any:
    if not takes_part(token):
        return output
    # a block gave a tuple before transformers 5, and gives a tensor since
    if isinstance(output, (tuple, list)):
        return type(output)((rewrite(output[0]), *output[1:]))
    return rewrite(output)


@contextmanager
def patch_input(module: nn.Module, rewrite: Rewrite) -> Iterator[None]:
    """Pass what a module is given through `rewrite` while inside; see `rewriting`."""
    with taking_part(_on_input(module, rewrite)):
        yield


@contextmanager
def patch_output(module: nn.Module, rewrite: Rewrite) -> Iterator[None]:
    """Pass what a module gives through `rewrite` while inside."""
    with taking_part(_on_output(module, rewrite)):
        yield


@contextmanager
def capture(
    model: LanguageModel, layer: int, component: Component, keep: Callable[[Tensor], None]
) -> Iterator[None]:
    """Show what the model computes at a site to `keep` while inside, without changing it."""
    if component == "resid_mid":  # reading must not re-round what it reads
        check_site(model, layer, component)
        before: list[Tensor] = []
        with (
            capture(model, layer, "resid_pre", lambda s: before.__setitem__(slice(None), [s])),
            capture(model, layer, "attn_out", lambda s: keep(before[0] + s)),
        ):
            yield
        return
    with patch(model, layer, component, partial(_shown_to, keep)):
        yield
