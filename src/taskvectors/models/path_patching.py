"""Vectors that enter a block on one way alone: its values, or its MLP.

The residual stream itself does not hold them, so queries, keys and the direct path never see them;
what a head or an MLP writes because of them enters the stream as usual. Made for branches in a
replay: each branch has its own vector, which enters at its first token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from jaxtyping import Float
from torch import Tensor

from taskvectors.models.attention import AttentionPattern, record_attention
from taskvectors.models.heads import Circuits
from taskvectors.models.language_model import LanguageModel
from taskvectors.models.sites import capture, patch, patch_input


@contextmanager
def entering_values(
    model: LanguageModel, layers: Sequence[int], added: Float[Tensor, "branch d_model"]
) -> Iterator[None]:
    """Let each branch's vector enter what some blocks' heads take as value at its first token.

    The value there is that of the state plus the vector, normed as the block norms; every token of
    the branch that looks there receives it. Passes that are no replay are left as they are.

    Args:
        model: The model.
        layers: The blocks.
        added: One vector per branch of the replay.
    """
    states: dict[int, Tensor] = {}
    with ExitStack() as stack:
        looks = stack.enter_context(record_attention(model))
        for layer in layers:
            keep: Callable[[Tensor], None] = partial(states.__setitem__, layer)
            stack.enter_context(capture(model, layer, "resid_pre", keep))
            entered = _ValueOf(model, layer, added, looks, states)
            stack.enter_context(patch(model, layer, "z", entered))
        yield


class _ValueOf:
    """Rewrites one block's `z`."""

    def __init__(
        self,
        model: LanguageModel,
        layer: int,
        added: Tensor,
        looks: dict[int, AttentionPattern],
        states: dict[int, Tensor],
    ) -> None:
        self.norm = model.attention_norm(layer)
        self.circuits = Circuits.of(model, layer)
        self.layer, self.added, self.looks, self.states = layer, added, looks, states

    def __call__(self, z: Tensor) -> Tensor:
        look, state = self.looks.pop(self.layer, None), self.states.pop(self.layer)
        if look is None:  # no replay, so there are no branches
            return z
        suffix = look.pattern.shape[3]
        first = look.unpacked(state)[:, :, 0]
        with_it = first + self.added.to(first)
        if self.norm is None:
            change = self.added.float().expand_as(first)
        else:
            change = self.norm(with_it).float() - self.norm(first).float()
        # how much each token of a branch looks at the branch's first one
        to_first = look.pattern[..., -suffix].float().transpose(2, 3)
        more = to_first.unsqueeze(-1) * self.circuits.values(change).unsqueeze(2)
        return z + look.packed(more.to(z.dtype).flatten(3))


@contextmanager
def entering_mlp(
    model: LanguageModel, layers: Sequence[int], added: Float[Tensor, "branch d_model"]
) -> Iterator[None]:
    """Let each branch's vector enter what the MLPs of some blocks read at its first token.

    Passes that are no replay are left as they are.
    """
    # attention comes before the MLP, also where both read the same state

    def enter(layer: int, given: Tensor) -> Tensor:
        look = looks.pop(layer, None)
        if look is None:
            return given
        rows = look.unpacked(given).clone()
        rows[:, :, 0] += added.to(rows)
        return look.packed(rows).view(given.shape)

    with ExitStack() as stack:
        looks = stack.enter_context(record_attention(model))
        for layer in layers:
            module = model.part(layer, "mlp_input")
            stack.enter_context(patch_input(module, partial(enter, layer)))
        yield
