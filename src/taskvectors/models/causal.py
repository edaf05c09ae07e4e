"""A model's blocks one by one, with gradients: what training a small model from scratch needs.

Sequences start at column 0, are padded on the right only, and attend causally, so no mask is ever
passed. Known for the two families that learners are built of; `trunk/` is for frozen models of any
family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.models.detect import detect

BODIES = ("gpt2", "llama")
"""Model types that can be run like this: learned absolute positions, and rotary ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CausalBody:
    """The parts of a model in the order in which a state goes through them."""

    embedding: nn.Embedding
    """W_E, a row per token or coordinate."""
    absolute: nn.Module | None
    """Learned positions, added below block 0."""
    rotary: nn.Module | None
    """Tables of rotary positions, passed to each block."""
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module
    unembedding: nn.Module

    @classmethod
    def of(cls, hf: Any) -> "CausalBody":
        """The parts of a transformers model, which stays as it is.

        Raises:
            UnsupportedModelError: Its family is not one of `BODIES`.
        """
        if hf.config.model_type not in BODIES:
            raise UnsupportedModelError(
                f"model type {hf.config.model_type!r} cannot be trained from scratch here; "
                f"there are {', '.join(BODIES)}"
            )
        structure = detect(hf)
        body = hf.get_submodule(structure.body)
        assert structure.final is not None  # of the model types that are trained here
        return cls(
            embedding=hf.get_input_embeddings(),
            absolute=getattr(body, "wpe", None),
            rotary=getattr(body, "rotary_emb", None),
            blocks=tuple(hf.get_submodule(path) for path in structure.block_paths),
            final_norm=hf.get_submodule(structure.final[0]),
            unembedding=hf.get_output_embeddings(),
        )

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def embed(self, inputs: Shaped[Tensor, "batch pos *width"]) -> Float[Tensor, "batch pos d"]:
        """Token ids or coordinates as vectors; a token is the coordinate that is 1."""
        if inputs.dim() == 2:
            embedded: Tensor = self.embedding(inputs)
            return embedded
        return inputs @ self.embedding.weight

    def enter(
        self, embedded: Float[Tensor, "batch pos d"], start: int = 0
    ) -> tuple[Float[Tensor, "batch pos d"], dict[str, Any]]:
        """What block 0 reads, and what every block is passed beside the state.

        Args:
            embedded: Embeddings.
            start: Position of the first column.
        """
        stop = start + embedded.shape[1]
        positions = torch.arange(start, stop, device=embedded.device).unsqueeze(0)
        if self.absolute is not None:
            return embedded + self.absolute(positions), {}
        assert self.rotary is not None
        return embedded, {"position_embeddings": self.rotary(embedded, position_ids=positions)}

    def run(
        self,
        state: Float[Tensor, "batch pos d"],
        arguments: Mapping[str, Any],
        layers: range,
    ) -> Float[Tensor, "batch pos d"]:
        """The state after some consecutive blocks."""
        for layer in layers:
            out = self.blocks[layer](state, **arguments)
            state = out[0] if isinstance(out, tuple) else out
        return state

    def logits(self, resid: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d_vocab"]:
        """The logits of some final states."""
        out: Tensor = self.unembedding(self.final_norm(resid))
        return out
