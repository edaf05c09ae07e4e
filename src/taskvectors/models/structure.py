"""The parts of a model: where its blocks are, what lies in each, and what follows the last one.

Found by `detect.py` from what the modules compute. A part that a model does not have is None, and
what needs it says so.
"""

from dataclasses import dataclass
from typing import Literal

Engine = Literal["trunk", "cached", "whole"]
"""What branches of a prompt share: prefix and residual streams, the prefix alone, or nothing."""
Part = Literal[
    "attention",
    "value_projection",
    "output_projection",
    "attention_output",
    "mlp_output",
    "mlp_input",
    "mlp_last_map",
    "heads",
]
_NEEDED_BY = {
    "attention": "its attention, which lora, ia3, prefix-tuning and the engine 'trunk' need",
    "value_projection": "W_V, which OV circuits, reconstruction and path expansion need",
    "output_projection": (
        "z, the heads' outputs before W_O, which function vectors, learned heads, state vectors, "
        "indirect effects, key heads, head ablation and lora need"
    ),
    "attention_output": "attn_out and resid_mid, which by-layer analyses of attention need",
    "mlp_output": "mlp_out, which icv, path expansion and ablation of MLPs need",
    "mlp_input": "the MLP's own input, which reconstruction through MLPs needs",
    "mlp_last_map": "the MLP's last linear map",
    "heads": "attention heads, which all methods and analyses by head need",
}
"""What a part stands for, and what cannot work without it."""


def missing_part(source: str, layer: int, name: Part) -> str:
    """What to say where a block has no such part."""
    return (
        f"layer {layer} of {source} has nothing that could be read as {_NEEDED_BY[name]}. Methods "
        "and analyses of the residual stream (learned, vanilla, resid_pre, resid_post) work."
    )


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The attention heads of one block."""

    n_heads: int
    n_key_value_heads: int
    """Query head h reads key-value head h // (n_heads / this)."""
    d_head: int
    """Width of a head's values, and of its part of `z`."""
    sees_values: bool
    """Whether `z` is what attention makes of the values, with no gate and no norm between."""


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """The parts of one block, as module paths that start at the block."""

    attention: str | None = None
    """The attention module: that which passes queries, keys and values on."""
    attention_norm: str | None = None
    """The norm through which attention reads the residual stream; None where it reads the stream
    itself, or where `value_projection` is None."""
    value_projection: str | None = None
    """The linear map that holds W_V."""
    value_offsets: tuple[int, ...] = ()
    """Where the output of that map holds each key-value head's values."""
    output_projection: str | None = None
    """W_O: its input is `z`, the heads' outputs side by side."""
    post_attention_norm: str | None = None
    """The norm between W_O and the residual stream, where there is one."""
    attention_output: str | None = None
    """The module whose output, times `residual_scale`, attention adds to the residual stream."""
    mlp_output: str | None = None
    """The module whose output, times `residual_scale`, the MLP adds to the residual stream."""
    mlp_input: str | None = None
    """The first module on the MLP's way, which is given the residual stream."""
    mlp_last_map: str | None = None
    """The last linear map of the MLP; a mixture of experts has none."""
    residual_scale: float = 1.0
    heads: Heads | None = None
    is_parallel: bool = False
    """Whether attention and MLP read the same state, so that nothing lies between them."""
    is_post_norm: bool = False
    """Whether a norm follows each sum, so that a block's parts do not add up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The parts of a model."""

    body: str
    """Path of the decoder without its unembedding, inside the transformers model."""
    block_paths: tuple[str, ...]
    """Paths of the blocks, inside the transformers model."""
    blocks: tuple[BlockParts, ...]
    final: tuple[str, ...] | None
    """Paths of the modules between the last block and the unembedding: a norm, a projection. None
    where that is more than modules one after another; the body's output is read there."""
    unembedding: str
    """Path of the last linear map."""
    n_logits: int
    """Entries of the logits; a padded unembedding has more rows."""
    d_model: int
    """Width of the residual stream; of several streams, all of them side by side."""
    n_streams: int = 1
    """Streams that lie on an axis of their own between the blocks."""
    stream_axis: int = 2
    state_scale: float = 1.0
    """What the final state is multiplied with before the unembedding reads it."""
    logit_scale: float = 1.0
    softcap: float | None = None
    """Bound c on the logits x, which are c tanh(x / c)."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the check of the identity found on a model."""

    engine: Engine
    error: float
    """Largest difference of logits between a branch and its full pass, in that engine."""
    reasons: dict[str, str]
    """Why each faster engine was passed over."""
    state_bytes: int = 0
    """What the model's own cache holds of a prompt however long it is, in float32: states of linear
    attention and of state spaces."""

    def notes(self, source: str) -> list[str]:
        """What to say of a run on a slower engine: what it does not share, and why."""
        if self.engine == "trunk":
            return []
        shared = {"cached": "shares a prompt's prefix only", "whole": "shares nothing"}
        why = "; ".join(f"{engine}: {reason}" for engine, reason in self.reasons.items())
        return [
            f"{source} runs on the engine {self.engine!r}, which {shared[self.engine]} and is "
            f"slower than 'trunk' ({why})"
        ]
