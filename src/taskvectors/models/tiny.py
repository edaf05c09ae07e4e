"""A tiny random model of any type that transformers builds, from the defaults of its config.

Sizes are shrunk by what a field's name says it counts; a list with an entry per layer is cut so
that every kind of layer is still there. A few types need values of their own (`_OWN`). Weights are
random and large enough that every part acts.
"""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch

N_LAYERS = 4
_VOCABULARY = 211
_WIDTH, _HEADS, _HEAD, _MLP, _EXPERTS = 32, 4, 8, 48, 4
_LARGEST = 20_000_000
"""Numbers in a model; a type that is larger has a size that no rule here knows."""
_SPREAD = 0.2
"""Standard deviation of the weights."""

_RULES: tuple[tuple[str, int], ...] = (
    # (name of an integer field, its value); the first that matches counts
    (r".*vocab_size.*|.*vocabulary.*", _VOCABULARY),
    (r"(bos|pad|eos|sep|cls|decoder_start)_token_id", -1),  # replaced by `_SPECIAL`
    (r".*token_(id|index)", 9),
    (r"(num|n)_(hidden_)?layers|(num_|n_)?decoder_layers|n_layer|num_blocks", N_LAYERS),
    (r"encoder_layers|num_encoder_layers", N_LAYERS),
    (r"depth|num_.*layers_(vision|audio)|out_depth", 2),
    (r"num_global_layers|num_mem_blocks|n_(in|out)put_layers|n_recurrent_loops", 1),
    (r".*(latent|lora|low)_?rank|.*_lora(_dim)?|adapter_rank|.*_rank", 16),
    (r"qk_head_dim", 16),
    (r"qk_(nope|rope)_head_dim|v_head_dim|.*head_dim|.*head_size|.*d_head|dim_head|kv_channels", 8),
    (r".*headdim|projector_hidden_act", 8),
    (r"rotary_dim", 4),
    (r".*(key_value|kv)_heads|.*kv_n_heads|.*n_kv_heads", 2),
    (r".*(linear|mamba|ssm|index).*key_heads|.*index_n_heads|.*indexer.*heads", 2),
    (r"mamba_(num|n)_heads|.*ssm.*heads", 8),
    (r"n_mamba_heads", 2),
    (r".*heads?|.*num_query_groups", _HEADS),
    (r".*experts?_per_tok(en)?|.*top_?k(_experts)?|moe_k|.*experts_per.*", 2),
    (r"(n|num|topk|moe)_?(expert)?_groups?|.*n_groups?|.*ngroups", 1),
    (r"n_shared_experts|num_shared_experts|.*shared_expert_num", 1),
    (r".*experts.*|moe_num.*", _EXPERTS),
    (r"first_k_dense_replace|num_dense_layers|moe_layer_start_index", 1),
    (r".*(expert|moe).*(intermediate|ffn|hidden).*|shared_intermediate_size", 24),
    (r".*(intermediate|ffn|inner|feed_forward|mlp).*(size|dim|hidden.*)?|dff|dim_ff", _MLP),
    (r".*state_(size|dim)|.*d_state|.*time_step_rank|.*dt_rank|.*chunk.*size", 8),
    (r".*conv.*(size|kernel|width|dim)|.*d_conv|conv1d_width|.*L_cache", 4),
    (r".*(sliding|attention|local).*(window|chunk).*|window_size", 6),
    (r"index_topk", 4),
    (r".*expand", 2),
    (r"image_size|.*input_size", 32),
    (r".*patch_size", 16),
    (r"(max_)?.*position.*|n_ctx|n_positions|max_seq_len|context_length|.*max_length", 256),
    (r".*per_layer_input|laurel_rank", 8),
    (r".*(hidden|embed|embd|emb|model|width|out).*(size|dim)?|d_model|dim|width|size", _WIDTH),
    (r".*(num|n)_.*layers?|.*layers", 2),
)
_SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 1, "sep": 2, "cls": 1}
_KEPT = re.compile(
    r".*(period|offset|interval|step|frequency|version|factor|theta|stride|ratio|merge|num_labels"
    r"|channels|temporal|eps|range|group_size|num_kv_shared).*"
)
"""Fields that are no sizes."""

_FULL, _SLIDING, _LINEAR = "full_attention", "sliding_attention", "linear_attention"
_MIXED = {"layer_types": [_LINEAR, _FULL] * 2}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
_ROPES = dict.fromkeys((_FULL, _SLIDING), _ROPE)
_OWN: dict[str, dict[str, Any]] = {
    # by default all layers are of one kind, or of a pattern longer than four
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": _MIXED,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": _MIXED,
    "lfm2": {"layer_types": ["conv", _FULL] * 2},
    "lfm2_moe": {"layer_types": ["conv", _FULL] * 2},
    "cohere_compass_text": {"layer_types": [_SLIDING, _FULL] * 2, "rope_parameters": _ROPES},
    "gemma3n_text": {"num_kv_shared_layers": 0, "intermediate_size": _MLP},
    # sizes that have to agree with one another, or that have no default
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": _WIDTH, "ffn_hidden_size": _MLP},
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots3_note_text": {
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "ernie4_5_vl_moe_text": {
        "moe_intermediate_size": [24, 24],
        "head_dim": 8,
        "rope_parameters": _ROPE | {"mrope_section": [1, 1, 2]},
    },
    "paddleocr_vl_text": {"rope_parameters": _ROPE | {"mrope_section": [2, 1, 1]}},
    "step3p5": {"sliding_window": 6, "layer_types": [_SLIDING, _FULL] * 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]]},
    "mistral4": {"qk_head_dim": 16, "head_dim": 16},
    "mamba2": {"num_heads": 8},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local"] * N_LAYERS,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 16,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "xlnet": {"attn_type": "uni"},
    "xlstm": {"qk_dim_factor": 1.0, "chunk_size": 16, "max_inference_chunksize": 16},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {
        "layers_block_type": [_LINEAR, "hybrid"] * 2,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "num_key_value_heads": 4,
        "attention_head_dim": 16,
        "attention_hidden_size": 64,
    },
}
"""What types need beside the rules."""
_SCALED = {
    "embedding_multiplier": 2.0,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.3,
    "attention_multiplier": 0.1,
}
"""Factors of Granite and its kin, which are 1 by default and so would not be seen."""
_CAPPED = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
"""Caps that bend what small models score."""


def tiny_config(model_type: str) -> Any:
    """A small config of a model type.

    Args:
        model_type: As `CONFIG_MAPPING` of transformers names it.
    """
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type](**_small(CONFIG_MAPPING[model_type]()))


def _small(config: Any) -> dict[str, Any]:
    """The arguments of a config like another, but small."""
    own = _OWN.get(config.model_type, {})
    aliases = config.attribute_map
    usual = vars(type(config)())  # what a config inside another may differ from
    values: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in own or name in aliases or name.startswith("_"):
            continue
        small = _small_value(config, name, value)
        if small is None and isinstance(value, (bool, int, float, str)):
            small = value if value != usual.get(name) else None
        if small is not None:
            values[name] = small
    if "kv_lora_rank" in values and "num_key_value_heads" in values:
        values["num_key_value_heads"] = values.get(
            "num_attention_heads", _HEADS
        )  # MLA has no groups
    for factors in (_SCALED, _CAPPED):
        values |= {name: value for name, value in factors.items() if vars(config).get(name)}
    values["tie_word_embeddings"] = False
    return values | own


def _small_value(config: Any, name: str, value: Any) -> Any:
    """The small value of a field; None where it stays as it is."""
    if name in (config.sub_configs or {}):
        return None if value is None else _small(value) | {"model_type": value.model_type}
    if isinstance(value, (list, tuple)):
        layers = getattr(config, "num_hidden_layers", None)
        return _every_kind(value) if value and len(value) == layers else None
    if name == "rope_parameters" and _has_mrope(config):
        half = int(_HEAD * (value or {}).get("partial_rotary_factor", 1.0)) // 2
        third = half // 3
        return (value or {}) | {"mrope_section": [half - 2 * third, third, third]}
    return _size(name, value)


def _has_mrope(config: Any) -> bool:
    """Whether rotary positions have a part each for time, height and width."""
    known = getattr(config, "ignore_keys_at_rope_validation", None) or ()
    return "mrope_section" in known or "mrope_section" in (config.rope_parameters or {})


def _size(name: str, value: object) -> int | None:
    """The small value of a field, or None where it stays as it is."""
    for special, number in _SPECIAL.items():
        if name == f"{special}_token_id":
            return number
    if value is None and name in ("head_dim", "num_key_value_heads"):
        return _HEAD if name == "head_dim" else 2
    if isinstance(value, bool) or not isinstance(value, int) or value <= 1 or _KEPT.fullmatch(name):
        return None
    for pattern, size in _RULES:
        if re.fullmatch(pattern, name):
            return size
    return None


def _every_kind(entries: Iterable[Any]) -> list[Any]:
    """As many entries as there are layers now, with every kind of them."""
    kinds: list[Any] = []
    for entry in entries:
        if entry not in kinds:
            kinds.append(entry)
    times = -(-N_LAYERS // len(kinds))
    return (kinds * times)[:N_LAYERS]


def build_tiny(model_type: str, *, seed: int = 0) -> Any:
    """A tiny model of a type with random weights, in float32 on the CPU.

    Args:
        model_type: A causal language model's, or that of a multimodal model around one.
        seed: Of the weights.

    Raises:
        ValueError: The rules leave it too large.
    """
    from taskvectors.models.loading import auto_class
    from taskvectors.models.options import resolve_attention

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        config = tiny_config(model_type)
        auto = auto_class(config)
        attention = resolve_attention(config.get_text_config().model_type, None)
        how = {"dtype": torch.float32, "attn_implementation": attention}
        with torch.device("meta"):
            plan = auto.from_config(config, **how)
        count = sum(parameter.numel() for parameter in plan.parameters())
        if count > _LARGEST:
            large = max((p.numel(), name) for name, p in plan.named_parameters())
            raise ValueError(f"{model_type} has {count} numbers; the largest part is {large}")
        torch.manual_seed(seed)
        hf = auto.from_config(config, **how)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in hf.named_parameters():
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, float(is_norm), _SPREAD, generator=generator)
    return hf.eval()
