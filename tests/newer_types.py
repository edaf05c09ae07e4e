"""Small configs of model types that need more than attention, norm and MLP one after another.

`engine` is what the identity check must find for each; the others are what the config says.
"""

from typing import Any

_SHAPE: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
_LATENT = _EXPERTS | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 4,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
# with few heads many scores are exactly 0, and ties fall otherwise in a longer pass
_INDEXED = _LATENT | {"index_topk": 4, "index_head_dim": 8, "index_n_heads": 16, "v_head_dim": 8}
_GEMMA_4 = {
    "sliding_window": 6,
    "vocab_size_per_layer_input": 211,
    "hidden_size_per_layer_input": 8,
    "global_head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}

NEWER: dict[str, tuple[str, dict[str, Any]]] = {
    "ministral3": ("trunk", {"sliding_window": 6}),
    "gpt_oss": (
        "trunk",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6},
    ),
    "gemma4_text": ("trunk", _GEMMA_4 | {"num_kv_shared_layers": 0}),
    "gemma4_text-sharing": ("cached", _GEMMA_4 | {"num_kv_shared_layers": 2}),
    "deepseek_v3": ("trunk", _LATENT),
    "deepseek_v32": ("whole", _INDEXED),
    "glm_moe_dsa": ("whole", _INDEXED),
    "qwen3_5_text": ("cached", _LINEAR),
    "qwen3_5_moe_text": (
        "cached",
        _LINEAR | _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 24},
    ),
    "nemotron_h": (
        "cached",
        {
            "num_hidden_layers": None,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "layers_block_type": ["linear_attention", "full_attention"] * 2,
        },
    ),
    "granite": (
        "trunk",
        {"logits_scaling": 4.0, "residual_multiplier": 0.3, "embedding_multiplier": 2.0},
    ),
    "cohere2": ("trunk", {"sliding_window": 6, "logit_scale": 0.0625}),
    "gpt_neo": (
        "cached",
        {
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 6,
        },
    ),
    "hy_v4": (
        "whole",
        _INDEXED
        | {
            "indexer_types": ["full", "shared"] * 2,
            "mlp_layer_types": ["dense", "sparse"] * 2,
        },
    ),
    "bloom": ("cached", {"n_layer": 4, "n_head": 4}),
    "mamba": ("whole", {"state_size": 8, "time_step_rank": 4}),
}


def config_of(name: str) -> dict[str, Any]:
    """The config of a small model."""
    values = _SHAPE | NEWER[name][1]
    return {key: value for key, value in values.items() if value is not None}
