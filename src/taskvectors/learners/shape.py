"""The size and kind of a learner, and a transformers model of it with random weights."""

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from taskvectors.errors import TaskVectorsError
from taskvectors.learners.family import TaskFamily
from taskvectors.models.accelerator import free_bytes
from taskvectors.models.completeness import MOST_LAYERS
from taskvectors.trunk.memory import readable

_BYTES = 16
"""Of a weight in training: itself, its gradient and AdamW's two moments, in float32."""


class LearnerShape(BaseModel):
    """The size and kind of a learner."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    body: Literal["gpt2", "llama"] = "gpt2"
    """`gpt2` has learned absolute positions, `llama` rotary ones."""
    n_layers: int = Field(default=4, ge=2, le=MOST_LAYERS)
    """Blocks; a vector needs one to be made and one to be used."""
    d_model: int = Field(default=64, ge=8)
    """Width of the residual stream."""
    n_heads: int = Field(default=4, ge=1)
    """Attention heads per block."""
    embedding_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the read-in at the start; the default is that of GPT-2's other weights.
    With more, real-valued inputs outweigh positions from the first step."""
    weight_std: float = Field(default=0.02, gt=0)
    """Standard deviation of all other weights at the start; the default is GPT-2's. It is for a
    width near 1,000: a narrow block does almost nothing with it, and stays longer on a plateau."""
    n_positions: int | None = None
    """Longest sequence; twice the trained one by default."""

    @property
    def name(self) -> str:
        """What rows call a learner of it, such as `gpt2 4x64`."""
        return f"{self.body} {self.n_layers}x{self.d_model}"

    @classmethod
    def of(cls, hf: Any) -> "LearnerShape":
        """The sizes of a model that there is."""
        config = hf.config
        return cls(
            body=config.model_type,
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            n_heads=config.num_attention_heads,
        )

    def build(self, family: TaskFamily, seed: int) -> Any:
        """A transformers model with random weights, without dropout; float32.

        Args:
            family: What it is to read and predict.
            seed: Seed of the weights. torch's global random state is as before afterwards.

        Raises:
            TaskVectorsError: The heads do not divide the width, or there is not the memory to train
                so many weights.
        """
        from transformers import AutoModelForCausalLM

        if self.d_model % self.n_heads:
            raise TaskVectorsError(
                f"{self.n_heads} heads do not divide a width of {self.d_model}; give a width that "
                "is a multiple of the heads"
            )
        positions = self.n_positions or family.n_positions(family.n_demonstrations)
        rows = 12 * self.n_layers * self.d_model + 2 * family.d_vocab + positions
        needed, free = _BYTES * self.d_model * rows, free_bytes(torch.device("cpu"))
        if needed > free:
            raise TaskVectorsError(
                f"a learner of {self.n_layers} blocks of width {self.d_model} takes "
                f"{readable(needed)} to train, and {readable(free)} are free; give fewer blocks "
                "or a smaller width"
            )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            hf: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                self._config(family), dtype=torch.float32
            )
            hf.get_input_embeddings().weight.data.normal_(std=self.embedding_std)
        return hf.train()

    def _config(self, family: TaskFamily) -> Any:
        from transformers import GPT2Config, LlamaConfig

        trained = family.n_positions(family.n_demonstrations)
        shared: dict[str, Any] = {
            "vocab_size": family.d_vocab,
            "bos_token_id": None,
            "eos_token_id": None,
            "tie_word_embeddings": False,
            "initializer_range": self.weight_std,
        }
        positions = self.n_positions or 2 * trained
        if self.body == "llama":
            return LlamaConfig(
                hidden_size=self.d_model,
                intermediate_size=4 * self.d_model,
                num_hidden_layers=self.n_layers,
                num_attention_heads=self.n_heads,
                max_position_embeddings=positions,
                **shared,
            )
        return GPT2Config(
            n_embd=self.d_model,
            n_layer=self.n_layers,
            n_head=self.n_heads,
            n_positions=positions,
            activation_function="gelu_pytorch_tanh",  # the same function as gelu_new, in one kernel
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **shared,
        )


# Starts of a width of 64: 1/sqrt(64) for weights, and more for the read-in, so that inputs outweigh
# positions. With GPT-2's 0.02, `offset` and `linear` stay longer on their plateaus.
SMALL = LearnerShape(n_layers=4, d_model=64, n_heads=4, weight_std=0.125, embedding_std=0.5)
"""Small enough for two cores, and large enough for the claims to show; ours."""
