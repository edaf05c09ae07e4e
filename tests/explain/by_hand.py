"""What analyses are compared with: plain passes of a transformers model.

One prompt, whole, without padding, cache or batch; plain hooks on its blocks and on W_O, all at one
token. Nothing of the library is in it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

Values = Mapping[int, Tensor]


class Hand:
    """A model, and where it has its parts."""

    def __init__(self, hf: Any, blocks: str, projection: str = "") -> None:
        self.hf = hf
        self.blocks: Any = self.hf.get_submodule(blocks)
        self.projections = {
            layer: module
            for layer, block in enumerate(self.blocks)
            for name, module in block.named_modules()
            if projection and name == projection
        }
        """W_O of the blocks that have heads."""
        self.n_heads = int(getattr(hf.config, "num_attention_heads", 0))
        self.last = len(self.blocks) - 1
        self.states: dict[int, Tensor] = {}
        """What each block gave in the last pass, at its token."""
        self.z: dict[int, Tensor] = {}
        """What each W_O was given, at all tokens; gradients can be asked of it."""

    def logits(
        self,
        tokens: Sequence[int],
        at: int,
        *,
        add: Values | None = None,
        put: Values | None = None,
        heads: Mapping[tuple[int, int], Tensor] | None = None,
        first: int | None = None,
        hooks: Callable[[ExitStack, int], None] | None = None,
    ) -> Tensor:
        """Logits `[pos, d_vocab]` of one pass.

        Args:
            tokens: The whole prompt.
            at: The token at which something is changed.
            add: Values added to what blocks give, by layer.
            put: Values in its place.
            heads: Values in place of heads' outputs before W_O, by layer and head.
            first: Heads are replaced from this token on; at that token alone by default.
            hooks: Sets further hooks.
        """
        with ExitStack() as stack:
            if hooks is not None:
                hooks(stack, at)
            for layer, block in enumerate(self.blocks):

                def after(_: Any, __: Any, out: Any, layer: int = layer) -> Any:
                    state = (out[0] if isinstance(out, tuple) else out).clone()
                    own = state[0, at]
                    own = (put or {}).get(layer, own).to(own).view_as(own)
                    own = own + (add or {}).get(layer, torch.zeros(own.numel())).to(own).view_as(
                        own
                    )
                    state[0, at] = own
                    self.states[layer] = own.flatten()
                    return (state, *out[1:]) if isinstance(out, tuple) else state

                def before(_: Any, args: Any, layer: int = layer) -> Any:
                    z = args[0].clone()
                    for (of, head), value in (heads or {}).items():
                        n = len(value)
                        if of == layer:
                            start = at if first is None else first
                            z[0, start : at + 1, head * n : (head + 1) * n] = value.to(z)
                    self.z[layer] = z.requires_grad_() if torch.is_grad_enabled() else z
                    return (self.z[layer], *args[1:])

                stack.callback(block.register_forward_hook(after).remove)
                if layer in self.projections:
                    module = self.projections[layer]
                    stack.callback(module.register_forward_pre_hook(before).remove)
            found: Tensor = self.hf(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits
        return found[0]

    def next(self, prompt: Any, **changes: Any) -> Tensor:
        """Logits of what follows a prompt, changed at its last token; gradients are not kept."""
        with torch.no_grad():
            return self.logits(prompt.token_ids, len(prompt.token_ids) - 1, **changes)[-1]

    def final(self, prompt: Any, **changes: Any) -> Tensor:
        """What the last block gives at the prompt's last token."""
        self.next(prompt, **changes)
        return self.states[self.last]

    def read(self, prompt: Any, state: Tensor) -> Tensor:
        """Logits of a state that stands in place of what the last block gives."""
        return self.next(prompt, put={self.last: state})

    def answer(self, prompt: Any, **changes: Any) -> Tensor:
        """Logits `[answer, d_vocab]` that predict an answer's tokens."""
        n = len(prompt.token_ids)
        return self.logits(prompt.token_ids + prompt.answer_ids[:-1], n - 1, **changes)[n - 1 :]

    def hits(self, prompt: Any, **changes: Any) -> list[bool]:
        """Whether each token of an answer is the most probable one."""
        with torch.no_grad():
            best = self.answer(prompt, **changes).argmax(dim=-1)
        return [a == b for a, b in zip(best.tolist(), prompt.answer_ids, strict=True)]

    def says(self, prompt: Any, n: int = 2, **changes: Any) -> tuple[int, ...]:
        """The tokens that the model goes on with."""
        said: list[int] = []
        with torch.no_grad():
            for _ in range(n):
                tokens = (*prompt.token_ids, *said)
                found = self.logits(tokens, len(prompt.token_ids) - 1, **changes)
                said.append(int(found[-1].argmax()))
        return tuple(said)


def accuracy(hand: Hand, prompts: Sequence[Any], **changes: Any) -> float:
    """Share of prompts whose whole answer is said."""
    return sum(all(hand.hits(prompt, **changes)) for prompt in prompts) / len(prompts)


def first_accuracy(hand: Hand, prompts: Sequence[Any], **changes: Any) -> float:
    """Share of prompts whose answer's first token is said."""
    return sum(hand.hits(prompt, **changes)[0] for prompt in prompts) / len(prompts)
