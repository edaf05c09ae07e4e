"""One traced pass: what every module of a model is given and gives, in order."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.interface import AttentionCall, attention_configs, watch_interface

N_TOKENS = 6
FIRST_WORDS = 4096
"""Tokens are drawn from the first of a vocabulary, so that the check of the identity needs no
float32 copy of the others."""
_SPECIAL = 3
"""The first tokens of a vocabulary are often padding, begin and end."""


@dataclass(kw_only=True, eq=False)
class ModuleCall:
    """One call of a module; tensors are copies."""

    path: str
    module: nn.Module
    inputs: dict[str, Tensor]
    """Tensors among its arguments, by position or name."""
    names: frozenset[str]
    """All its keyword arguments."""
    began: int
    """Calls are numbered in the order in which they begin."""
    ended: int = -1
    output: Tensor | None = None
    """Its result, or the first tensor of it."""

    def contains(self, other: "ModuleCall") -> bool:
        """Whether the other call happens during this one."""
        return self.began < other.began and other.ended <= self.ended


@dataclass(kw_only=True, eq=False)
class Trace:
    """All calls of one pass over a few tokens."""

    tokens: Int[Tensor, "1 pos"]
    calls: list[ModuleCall] = field(default_factory=list)
    attention: list[tuple[int, AttentionCall]] = field(default_factory=list)
    """Calls of the attention interface, each with the number of the module call before it."""
    logits: Tensor = field(default_factory=lambda: torch.empty(0))

    def within(self, outer: ModuleCall) -> list[ModuleCall]:
        """The calls during another, in order."""
        return [call for call in self.calls if outer.contains(call)]


def few_tokens(hf: Any, n_tokens: int = N_TOKENS) -> Int[Tensor, "1 pos"]:
    """A few token ids of a model, different ones if the vocabulary has as many."""
    rows = min(int(hf.config.get_text_config().vocab_size), FIRST_WORDS)
    start = _SPECIAL if rows >= n_tokens + _SPECIAL else 0
    drawn = torch.randperm(rows - start, generator=torch.Generator().manual_seed(0))
    ids = start + drawn.repeat(n_tokens // len(drawn) + 1)[:n_tokens]
    return ids.unsqueeze(0).to(hf.get_input_embeddings().weight.device)


def trace(hf: Any, n_tokens: int = N_TOKENS) -> Trace:
    """Run a few different tokens once.

    Args:
        hf: A transformers model; on torch's meta device tensors are not copied.
        n_tokens: How many.

    Raises:
        UnsupportedModelError: It does not run on tokens alone.
    """
    try:
        return _trace(hf, n_tokens)
    except UnsupportedModelError:
        raise
    except Exception as error:  # whatever a stranger's model raises
        said = str(error).partition("\n")[0][:300]
        raise UnsupportedModelError(
            f"{type(hf).__name__} does not run on tokens alone ({type(error).__name__}: {said}), "
            "so it cannot be read as a language model. If it should, check its config.json."
        ) from error


def _trace(hf: Any, n_tokens: int) -> Trace:
    found = Trace(tokens=few_tokens(hf, n_tokens))
    open_calls: list[ModuleCall] = []
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(watch_interface(attention_configs(hf), partial(_attend, found)))
        for path, module in hf.named_modules():
            before = module.register_forward_pre_hook(
                partial(_begin, found, open_calls, path), with_kwargs=True
            )
            after = module.register_forward_hook(partial(_end, found, open_calls))
            stack.callback(before.remove)
            stack.callback(after.remove)
        out = hf(input_ids=found.tokens, use_cache=False, **_mask_of_shapes(found.tokens))
    found.logits = out.logits
    return found


def _mask_of_shapes(tokens: Tensor) -> dict[str, Tensor]:
    """On the meta device, a mask that transformers takes as it is; it reads positions otherwise."""
    if not tokens.is_meta:
        return {}
    n_tokens = tokens.shape[1]
    return {"attention_mask": tokens.new_ones(1, 1, n_tokens, n_tokens, dtype=torch.bool)}


def _attend(found: Trace, call: AttentionCall) -> None:
    found.attention.append((found.calls[-1].began, call))


def _begin(
    found: Trace,
    open_calls: list[ModuleCall],
    path: str,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    tensors = {
        name: kept(value)
        for name, value in (*((str(i), arg) for i, arg in enumerate(args)), *kwargs.items())
        if isinstance(value, Tensor)
    }
    call = ModuleCall(
        path=path,
        module=module,
        inputs=tensors,
        names=frozenset(kwargs),
        began=len(found.calls),
    )
    found.calls.append(call)
    open_calls.append(call)


def _end(found: Trace, open_calls: list[ModuleCall], module: nn.Module, _: Any, out: Any) -> None:
    while open_calls[-1].module is not module:  # a call that another hook or an error cut short
        open_calls.pop()
    call = open_calls.pop()
    call.ended = len(found.calls)
    first = next(_tensors(out), None)
    call.output = None if first is None else kept(first)


def _tensors(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, (tuple, list)):
        yield from (part for part in out if isinstance(part, Tensor))
    elif hasattr(out, "to_tuple"):
        yield from (part for part in out.to_tuple() if isinstance(part, Tensor))


def kept(value: Tensor) -> Tensor:
    """A copy that later changes in place do not reach; on the meta device the tensor itself."""
    return value if value.is_meta else value.detach().clone()
