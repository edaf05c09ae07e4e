"""Models whose blocks are linear maps written by hand.

Norms are made linear by an epsilon that dwarfs the states, MLPs by a gate that is 1, and attention
is silent. Block k then multiplies the residual stream by a matrix that is given.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from taskvectors.models import LanguageModel

_EPSILON = 1e8
_OPEN_GATE = 1.2784645427610738
"""Where SiLU is 1."""


def linear_model(
    maps: Sequence[Tensor], tokenizer: Any = None, *, d_vocab: int = 61, gate: float = 0.0
) -> LanguageModel:
    """A model whose block k multiplies the residual stream by `maps[k]`.

    Args:
        maps: One square matrix per block.
        tokenizer: Its tokenizer.
        d_vocab: Its vocabulary.
        gate: Standard deviation of the gates' weights: what makes the blocks non-linear.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    width = maps[0].shape[0]
    config = LlamaConfig(
        vocab_size=d_vocab,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=len(maps),
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=_EPSILON,
        mlp_bias=True,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    hf = LlamaForCausalLM(config).float()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in hf.named_parameters():
        if "norm" in name:
            torch.nn.init.constant_(parameter, _EPSILON**0.5)
        else:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    identity = torch.eye(width)
    for block, matrix in zip(hf.model.layers, maps, strict=True):
        with torch.no_grad():
            block.self_attn.v_proj.weight.zero_()
            block.mlp.gate_proj.weight.normal_(std=gate, generator=generator)
            block.mlp.gate_proj.bias.fill_(_OPEN_GATE)
            block.mlp.up_proj.weight.copy_(matrix - identity)
            block.mlp.up_proj.bias.zero_()
            block.mlp.down_proj.weight.copy_(identity)
            block.mlp.down_proj.bias.zero_()
    return LanguageModel.wrap(hf, tokenizer, source="planted")


def half_turn(width: int, angle: float) -> Tensor:
    """A rotation by an angle in each plane of neighbouring coordinates."""
    turn = torch.tensor(
        [[torch.cos(torch.tensor(angle)), -torch.sin(torch.tensor(angle))],
         [torch.sin(torch.tensor(angle)), torch.cos(torch.tensor(angle))]]
    )
    return torch.block_diag(*[turn] * (width // 2))


def stretching(width: int, seed: int = 3) -> Tensor:
    """A positive map with singular values from 1 to 3 along random directions."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return basis @ torch.diag(torch.linspace(1, 3, width)) @ basis.T
