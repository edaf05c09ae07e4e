"""`LanguageModel`: a frozen transformers model with the field's names for its parts.

The one place that follows a family's module paths. It changes nothing in the model: weights stay as
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
from taskvectors.models.families import FAMILIES, Family
from taskvectors.models.unembedding import Unembedding

ADD_A_FAMILY = "docs/adding-a-family.md"


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A frozen causal language model, its tokenizer and its family.

    Made by `load_model`, or from a model and tokenizer that are already loaded with
    `LanguageModel.wrap`.
    """

    hf: Any
    """The transformers model, in evaluation mode, without gradients."""
    tokenizer: Any
    """Its tokenizer; None for models that are only fed token ids."""
    family: Family
    source: str
    """What it was loaded from: hub id, folder name or file name."""
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

        Raises:
            UnsupportedModelError: Its family is not in `FAMILIES`, or a module of it is missing.
        """
        family = find_family(hf)
        hf.requires_grad_(False)
        hf.eval()
        return cls(
            hf=hf,
            tokenizer=tokenizer,
            family=family,
            source=source or hf.config.name_or_path or family.model_type,
            **about,
        )

    @cached_property
    def config(self) -> Any:
        """The text model's config."""
        return self.hf.config.get_text_config()

    @cached_property
    def body(self) -> nn.Module:
        """The decoder without its unembedding."""
        return follow(self.hf, self.family.body)

    @cached_property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The blocks in order."""
        return tuple(follow(self.body, self.family.blocks))  # type: ignore[arg-type]

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @cached_property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @cached_property
    def n_heads(self) -> int:
        """Query heads per block."""
        return int(self.config.num_attention_heads)

    @cached_property
    def n_key_value_heads(self) -> int:
        """Key-value heads per block; query head h reads key-value head h // (n_heads / this)."""
        return int(getattr(self.config, "num_key_value_heads", None) or self.n_heads)

    @cached_property
    def d_head(self) -> int:
        """Width of one head; not always d_model / n_heads."""
        return int(getattr(self.config, "head_dim", None) or self.d_model // self.n_heads)

    @cached_property
    def d_vocab(self) -> int:
        """Rows of the unembedding."""
        return int(self.hf.get_output_embeddings().weight.shape[0])

    @cached_property
    def context_length(self) -> int:
        """Most tokens a prompt may have."""
        return int(self.config.max_position_embeddings)

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
        """Whether attention and MLP read the same state, so that nothing lies between them."""
        flag = self.family.parallel_flag
        return flag is not None and bool(getattr(self.config, flag))

    @cached_property
    def is_post_norm(self) -> bool:
        """Whether a norm follows each sum, so that a block's parts do not add up."""
        flag = self.family.pre_norm_flag
        return flag is not None and not getattr(self.config, flag)

    def attention_norm(self, layer: int) -> nn.Module | None:
        """The norm through which a block's attention reads the residual stream, if any."""
        path = self.family.attention_norm
        return None if self.is_post_norm or not path else self.module(layer, path)

    @cached_property
    def unembedding(self) -> Unembedding:
        """The last linear map and the soft-cap on its logits."""
        head = self.hf.get_output_embeddings()
        return Unembedding(
            weight=head.weight,
            bias=getattr(head, "bias", None),
            softcap=getattr(self.config, "final_logit_softcapping", None),
        )

    def final_state(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_state"]:
        """What the unembedding reads: after the final norm (and OPT's projection)."""
        state = resid
        for path in (self.family.final_norm, self.family.project_out):
            module = None if path is None else getattr(self.body, path, None)
            if module is not None:
                state = module(state)
        return state

    def logits(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """All logits of some final residual streams (`resid_post` of the last block)."""
        return self.unembedding.logits(self.final_state(resid))

    def module(self, layer: int, path: str) -> nn.Module:
        """The module at `path` inside block `layer`."""
        return follow(self.blocks[layer], path)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this model's weights from another's: shapes, and sampled values.

        The samples survive a change of dtype to a relative 1e-2; for quantised weights they are
        taken from the norms, which stay as they were.
        """
        if "fingerprint" not in self._memo:
            self._memo["fingerprint"] = _fingerprint(self)
        return dict(self._memo["fingerprint"])


def find_family(hf: Any) -> Family:
    """The family of a transformers model.

    Raises:
        UnsupportedModelError: The family is unknown, or modules it should have are missing.
    """
    config = hf.config.get_text_config()
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UnsupportedModelError(
            f"model type {config.model_type!r} is not supported; supported are "
            f"{', '.join(sorted(FAMILIES))}. {ADD_A_FAMILY} says how to add one."
        )
    missing = _missing_modules(hf, family)
    if missing:
        raise UnsupportedModelError(
            f"{type(hf).__name__} has model type {config.model_type!r} but not the modules "
            f"{', '.join(missing)}; {ADD_A_FAMILY} says what each is for."
        )
    return family


def _missing_modules(hf: Any, family: Family) -> list[str]:
    missing = [path for path in (family.body,) if find(hf, path) is None]
    if missing:
        return missing
    body = follow(hf, family.body)
    blocks = find(body, family.blocks)
    if blocks is None or not len(blocks):  # type: ignore[arg-type]
        return [f"{family.body}.{family.blocks}"]
    inside = {
        family.attention,
        family.output_projection,
        family.value_projection,
        family.attention_output,
        family.mlp_output,
        family.mlp_input,
        *filter(None, (family.attention_norm, family.post_attention_norm)),
    }
    first = blocks[0]  # type: ignore[index]
    return sorted(f"{family.blocks}[0].{path}" for path in inside if find(first, path) is None)


def find(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None."""
    for name in path.split("."):
        module = getattr(module, name, None)  # type: ignore[assignment]
        if module is None:
            return None
    return module


def follow(module: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path that is known to exist."""
    found = find(module, path)
    if found is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} has no module {path!r}; {ADD_A_FAMILY} says what it is for."
        )
    return found


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
