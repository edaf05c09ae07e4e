"""Some tokens of a vocabulary, as a vocabulary of its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvectors.models.unembedding import Unembedding, slice_logits, slice_memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Shortlist:
    """The listed tokens, and the map to them.

    A softmax over it is the softmax over the full vocabulary, given that the token is listed; a
    cross-entropy over it is lower than the full one by -log of the probability of the listed.
    """

    tokens: Int[Tensor, " listed"]
    """Sorted, each once."""
    unembedding: Unembedding
    """The map to the listed tokens, in their order."""

    @classmethod
    def of(cls, full: Unembedding, tokens: Int[Tensor, " listed"]) -> "Shortlist":
        """The list of some sorted tokens."""
        return cls(tokens=tokens.clone(), unembedding=full.rows(tokens))

    def index(self, tokens: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """Where listed tokens stand in the list."""
        return torch.searchsorted(self.tokens, tokens)

    def replace(self, full: Unembedding, tokens: Int[Tensor, " listed"]) -> "Shortlist":
        """A list of other tokens: in the same memory if they are as many, as a CUDA graph needs."""
        if tokens.shape != self.tokens.shape:
            return Shortlist.of(full, tokens)
        new = full.rows(tokens)
        self.tokens.copy_(tokens)
        self.unembedding.weight.copy_(new.weight)
        if new.bias is not None and self.unembedding.bias is not None:
            self.unembedding.bias.copy_(new.bias)
        return self


def highest_probabilities(
    unembedding: Unembedding,
    state: Float[Tensor, "row d_state"],
    normalizer: Float[Tensor, " row"],
) -> Float[Tensor, " d_vocab"]:
    """The highest probability that any row gives to each token."""
    shift, found = normalizer.to(state.dtype).unsqueeze(1), []
    memory = slice_memory(state)
    n_tokens = len(memory) // len(state)
    for start in range(0, unembedding.weight.shape[0], n_tokens):
        weight = unembedding.weight[start : start + n_tokens]
        logits = slice_logits(unembedding, state, weight, start, None, memory)
        found.append(logits.sub_(shift).amax(dim=0))
    return torch.cat(found).float().exp()
