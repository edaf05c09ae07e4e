"""`LanguageModel`: a frozen transformers model with the field's names for its parts.

The parts are found by structure (`detect.py`). It changes nothing in the model: weights stay as
they are, no hook is left behind.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taskvectors.errors import UnsupportedModelError
from taskvectors.format import ABSENT, html_table
from taskvectors.models.detect import detect
from taskvectors.models.interface import attention_configs
from taskvectors.models.peft_models import unwrapped
from taskvectors.models.rope import rope_limit
from taskvectors.models.structure import (
    BlockParts,
    Engine,
    Heads,
    Part,
    Structure,
    Verified,
    missing_part,
)
from taskvectors.models.text_models import text_model
from taskvectors.models.unembedding import Unembedding

_UNLIMITED = 2**31


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A frozen causal language model, its tokenizer and its structure.

    Made by `load_model`, or from a model and tokenizer that are already loaded with
    `LanguageModel.wrap`.
    """

    hf: Any
    """The transformers model, in evaluation mode, without gradients."""
    tokenizer: Any
    """Its tokenizer; None for models that are only fed token ids."""
    structure: Structure
    source: str
    """What it was loaded from: hub id, folder name or file name."""
    location: str = ""
    """What `load_model` takes to load it again, a path as an absolute one; empty where it was
    loaded elsewhere."""
    revision: str = ""
    """Commit of the hub repository, or hash of the file, where known."""
    weights_note: str = ""
    """What is special about the weights, e.g. that they were de-quantised from 4 bits."""
    _memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def wrap(
        cls, hf: Any, tokenizer: Any = None, *, source: str = "", **about: Any
    ) -> "LanguageModel":
        """A loaded transformers model as a `LanguageModel`: frozen, in evaluation mode.

        The adapter of a `PeftModel` is merged into its weights in place, so that calls of either
        object are those of one model; `unmerge_adapter()` takes it out again.

        Raises:
            UnsupportedModelError: It has no residual stream that could be followed to its logits.
        """
        hf = text_model(unwrapped(hf))
        hf.requires_grad_(False)
        hf.eval()
        return cls(
            hf=hf,
            tokenizer=tokenizer,
            structure=detect(hf),
            source=source or hf.config.name_or_path or hf.config.model_type,
            **about,
        )

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return (
            f"LanguageModel({self.source!r}, {self.model_type}: {self.n_layers} layers, d_model "
            f"{self.d_model}, {kind} on {self.device})"
        )

    def _repr_html_(self) -> str:
        about = {
            "family": self.model_type,
            "layers": self.n_layers,
            "d_model": self.d_model,
            "vocabulary": self.d_vocab,
            "type": str(self.dtype).removeprefix("torch."),
            "device": self.device,
            "weights": self.weights_note or ABSENT,
        }
        return html_table(self.source, (), list(about.items()))

    @cached_property
    def config(self) -> Any:
        """The text model's config."""
        return self.hf.config.get_text_config()

    @property
    def model_type(self) -> str:
        """`model_type` of the text model's config."""
        return str(self.config.model_type)

    @cached_property
    def body(self) -> nn.Module:
        """The decoder without its unembedding."""
        found: nn.Module = self.hf.get_submodule(self.structure.body)
        return found

    @cached_property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks in order."""
        return tuple(self.hf.get_submodule(path) for path in self.structure.block_paths)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.structure.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream; of several streams, all of them side by side."""
        return self.structure.d_model

    @cached_property
    def attention_configs(self) -> list[Any]:
        """The configs whose name of an attention implementation the model's modules follow."""
        return attention_configs(self.hf)

    def heads(self, layer: int) -> Heads:
        """The attention heads of a block.

        Raises:
            UnsupportedModelError: It has none, or none that are known.
        """
        found = self.structure.blocks[layer].heads
        if found is None:
            raise UnsupportedModelError(missing_part(self.source, layer, "heads"))
        return found

    @cached_property
    def all_heads(self) -> Heads:
        """The attention heads of every block, where they are alike.

        Raises:
            UnsupportedModelError: Blocks have different ones, or none.
        """
        first = self.heads(0)
        for layer in range(self.n_layers):
            if self.heads(layer) != first:
                raise UnsupportedModelError(
                    f"{self.source} has other attention heads in layer {layer} than in layer 0; "
                    "methods and analyses that go through all heads of a model (function vectors, "
                    "learned heads, indirect effects, head ablation, OV circuits) need the same "
                    "heads in every layer. Methods of the residual stream (learned, vanilla) work."
                )
        return first

    @property
    def n_heads(self) -> int:
        """Query heads per block."""
        return self.all_heads.n_heads

    @property
    def n_key_value_heads(self) -> int:
        """Key-value heads per block; query head h reads key-value head h // (n_heads / this)."""
        return self.all_heads.n_key_value_heads

    @property
    def d_head(self) -> int:
        """Width of one head's values; not always d_model / n_heads."""
        return self.all_heads.d_head

    @cached_property
    def attention_size(self) -> tuple[int, int, int]:
        """Of the largest block: query heads, width of `z`, width of its keys and values together.

        A block whose heads are unknown counts like one whose heads are as wide as the stream.
        """
        n_heads = int(getattr(self.config, "num_attention_heads", None) or 1)
        unknown = (n_heads, self.d_model, 2 * self.d_model)
        sizes = [
            unknown
            if (heads := parts.heads) is None
            else (
                heads.n_heads,
                heads.n_heads * heads.d_head,
                2 * heads.n_key_value_heads * heads.d_head,
            )
            for parts in self.structure.blocks
        ]
        most, widest, largest = (max(column) for column in zip(*sizes, strict=True))
        return most, widest, largest

    @cached_property
    def d_vocab(self) -> int:
        """Rows of the unembedding."""
        return int(self.unembedding.weight.shape[0])

    @cached_property
    def context_length(self) -> int:
        """Most tokens a prompt may have; 2^31 where the config sets no limit."""
        return int(getattr(self.config, "max_position_embeddings", None) or _UNLIMITED)

    @cached_property
    def rope_limit(self) -> int | None:
        """The length beyond which rotary positions are scaled by how long a call is, if any."""
        return rope_limit(self.config)

    def forget_longer_calls(self) -> None:
        """Undo the scale of a longer call, which `dynamic` rotary positions keep."""
        for module in self.body.modules() if self.rope_limit else ():
            for name in [name for name in module._buffers if name.endswith("original_inv_freq")]:
                kind = name.removesuffix(
                    "original_inv_freq"
                )  # some have one for each kind of layer
                # a copy: `longrope` writes its long factors over what is in use
                module.register_buffer(f"{kind}inv_freq", getattr(module, name).clone(), False)
                setattr(module, f"{kind}max_seq_len_cached", module.original_max_seq_len)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the residual stream."""
        found: torch.dtype = self.hf.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return torch.device(self.hf.get_input_embeddings().weight.device)

    @property
    def _is_quantized(self) -> bool:
        return getattr(self.hf, "hf_quantizer", None) is not None

    @cached_property
    def is_parallel(self) -> bool:
        """Whether attention and MLP of some block read the same state: nothing lies between."""
        return any(parts.is_parallel for parts in self.structure.blocks)

    @cached_property
    def is_post_norm(self) -> bool:
        """Whether a norm follows each sum, so that a block's parts do not add up."""
        return any(parts.is_post_norm for parts in self.structure.blocks)

    def attention_norm(self, layer: int) -> nn.Module | None:
        """The norm through which a block's attention reads the residual stream, if any.

        Raises:
            UnsupportedModelError: It is not known how attention reads.
        """
        self.part(layer, "value_projection")
        path = self.structure.blocks[layer].attention_norm
        return None if path is None else self.module(layer, path)

    def post_attention_norm(self, layer: int) -> nn.Module | None:
        """The norm between a block's W_O and the residual stream, if any."""
        path = self.structure.blocks[layer].post_attention_norm
        return None if path is None else self.module(layer, path)

    @cached_property
    def unembedding(self) -> Unembedding:
        """The last linear map and the soft-cap on its logits."""
        head: Any = self.hf.get_submodule(self.structure.unembedding)
        weight, bias, n_logits = head.weight, getattr(head, "bias", None), self.structure.n_logits
        return Unembedding(
            weight=weight if len(weight) == n_logits else weight[:n_logits],
            bias=None if bias is None else bias[:n_logits] * self.structure.logit_scale,
            softcap=self.structure.softcap,
        )

    def final_state(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_state"]:
        """What the unembedding reads: after the final norm, a projection, and factors.

        Raises:
            UnsupportedModelError: More lies between than modules that follow one another.
        """
        streams = self.structure.n_streams
        state = resid if streams == 1 else resid.reshape(1, -1, streams, resid.shape[-1] // streams)
        for module in self.final_modules:
            state = module(state)
        state = self._scaled(state)
        return state if streams == 1 else state.reshape(*resid.shape[:-1], state.shape[-1])

    def read_state(self, states: Float[Tensor, "... width"]) -> Float[Tensor, "... d_state"]:
        """What the unembedding reads of the states that a run returns; see `run_body`."""
        return self._scaled(states) if self.structure.final is None else self.final_state(states)

    def _scaled(self, state: Tensor) -> Tensor:
        scale = self.structure.state_scale * self.structure.logit_scale
        return state if scale == 1 else state * scale

    @cached_property
    def final_modules(self) -> tuple[Any, ...]:
        """The modules between the last block and the unembedding: a norm, a projection.

        Raises:
            UnsupportedModelError: More lies between than modules that follow one another.
        """
        if self.structure.final is None:
            raise UnsupportedModelError(
                f"the logits of {self.source} are not a function of its last block alone, so a "
                "state or direction has no logits of its own; label alignment, path expansion and "
                "by-layer analyses need them."
            )
        return tuple(self.hf.get_submodule(path) for path in self.structure.final)

    def logits(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """All logits of some final residual streams (`resid_post` of the last block)."""
        return self.unembedding.logits(self.final_state(resid))

    def parts(self, layer: int) -> BlockParts:
        """The parts of a block, as paths that start at it."""
        return self.structure.blocks[layer]

    def part(self, layer: int, name: Part) -> nn.Module:
        """A part of a block.

        Raises:
            UnsupportedModelError: The block has none; the message says what needs it.
        """
        path = getattr(self.parts(layer), name)
        if path is None:
            raise UnsupportedModelError(missing_part(self.source, layer, name))
        return self.module(layer, path)

    def module(self, layer: int, path: str) -> nn.Module:
        """The module at `path` inside block `layer`."""
        return self.blocks[layer].get_submodule(path)

    @property
    def engine(self) -> Engine:
        """What runs branches: the fastest engine that is exact for this model.

        Found on the model itself at first use, and kept by its fingerprint; of a model without
        weights it is assumed that attention alone decides.

        Raises:
            UnsupportedModelError: A later token changes what is before it, or no engine is exact.
        """
        return self.verified.engine

    def engine_for(self, n_tokens: int) -> Engine:
        """The engine of prompts the longest of which has so many tokens.

        Over `rope_limit`, only prompts of one length run together, as each would alone.
        """
        is_over = self.rope_limit is not None and n_tokens > self.rope_limit
        return "whole" if is_over else self.engine

    @cached_property
    def verified(self) -> Verified:
        """What the check of the identity found on this model; see `identity.py`."""
        from taskvectors.models.identity import verified  # it runs models, so it imports this

        if self.device.type == "meta":
            attends = all(parts.heads is not None for parts in self.structure.blocks)
            return Verified(engine="trunk" if attends else "cached", error=0.0, reasons={})
        return verified(self)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this model's weights from another's: shapes, and sampled values.

        The samples survive a change of dtype to a relative 1e-2; for quantised weights they are
        taken from the norms, which stay as they were. Of a model without weights nothing is known.
        """
        if self.device.type == "meta":
            return {}
        if "fingerprint" not in self._memo:
            self._memo["fingerprint"] = _fingerprint(self)
        return dict(self._memo["fingerprint"])


def _fingerprint(model: LanguageModel) -> dict[str, Any]:
    named = dict(model.hf.named_parameters())
    shapes = hashlib.sha256(
        ";".join(f"{name}:{tuple(p.shape)}" for name, p in sorted(named.items())).encode()
    ).hexdigest()
    names = sorted(name for name, p in named.items() if p.is_floating_point())
    norms = [name for name in names if "norm" in name or "ln_" in name]
    others = [] if model._is_quantized else sorted(set(names) - set(norms))
    chosen = norms[:: max(1, len(norms) // 6)] + others[:: max(1, len(others) // 6)]
    samples = {}
    for name in chosen:
        flat = named[name].detach().flatten()
        steps = torch.linspace(0, flat.numel() - 1, 8, dtype=torch.float64).long()
        samples[name] = [round(float(v), 6) for v in flat[steps.to(flat.device)].float().cpu()]
    return {"shapes": shapes, "samples": samples, "is_quantized": model._is_quantized}
