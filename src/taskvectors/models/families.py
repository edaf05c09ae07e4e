"""Which model families can be read and edited, and where each keeps its parts.

A family is data: the paths of a few modules. Everything else (masks, rotary tables, caches,
windows) is taken from what the model itself passes to its blocks, so a family needs no code. How to
add one is on the page `docs/adding-a-family.md`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """Module paths of one architecture; paths inside a block start at the block.

    `attention_output` and `mlp_output` name the module whose output is what the residual stream
    receives: after a post-norm where the family has one (Gemma 2 and 3, OLMo 2).
    """

    model_type: str
    """`model_type` of the transformers config."""
    name: str
    """The family's usual name."""
    body: str = "model"
    """The decoder without its unembedding, inside the causal language model."""
    blocks: str = "layers"
    """The list of blocks, inside the body."""
    final_norm: str | None = "norm"
    """The norm before the unembedding, inside the body."""
    project_out: str | None = None
    """A linear map between the final norm and the unembedding, inside the body, where there is
    one."""
    attention: str = "self_attn"
    """The attention module of a block; it knows its layer as `layer_idx`."""
    output_projection: str = "self_attn.o_proj"
    """W_O: its input is `z`, the heads' outputs side by side."""
    value_projection: str = "self_attn.v_proj"
    """The linear map that holds W_V."""
    value_layout: str = "own"
    """How W_V lies in it: `own` (nothing else), `tail` (the last part of fused q, k, v),
    `interleaved` (per head q, k, v)."""
    attention_norm: str = "input_layernorm"
    """The norm that attention reads the residual stream through; empty where there is none."""
    attention_output: str = "self_attn.o_proj"
    """Module whose output attention adds to the residual stream."""
    mlp_output: str = "mlp"
    """Module whose output the MLP adds to the residual stream."""
    mlp_input: str = "post_attention_layernorm"
    """The first module on the MLP's way, which is given the residual stream: its norm, or the MLP
    itself where there is none."""
    post_attention_norm: str | None = None
    """The norm on attention's output, where there is one."""
    pre_norm_flag: str | None = None
    """Config field that says whether norms come before attention and MLP. Where it is false,
    attention reads the residual stream itself, and each sum goes through a norm on its way on."""
    parallel_flag: str | None = None
    """Config field that says whether attention and MLP read the same state (no site between
    them)."""
    linear_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the attention's linear maps, as adapters ask for them."""
    scaled_targets: tuple[str, ...] = ("k_proj", "v_proj")
    """Of these, the ones with the keys and values: what (IA)3 scales."""
    mlp_last_map: str = "mlp.down_proj"
    """The last linear map of the MLP, whose input (IA)3 scales; a mixture of experts has none."""


_FAMILIES = (
    Family(model_type="llama", name="Llama"),
    Family(model_type="mistral", name="Mistral"),
    Family(model_type="qwen2", name="Qwen2"),
    Family(model_type="qwen3", name="Qwen3"),
    Family(
        model_type="gemma2",
        name="Gemma 2",
        attention_output="post_attention_layernorm",
        mlp_output="post_feedforward_layernorm",
        mlp_input="pre_feedforward_layernorm",
        post_attention_norm="post_attention_layernorm",
    ),
    Family(
        model_type="gemma3_text",
        name="Gemma 3 (text)",
        attention_output="post_attention_layernorm",
        mlp_output="post_feedforward_layernorm",
        mlp_input="pre_feedforward_layernorm",
        post_attention_norm="post_attention_layernorm",
    ),
    Family(
        model_type="gpt2",
        name="GPT-2",
        body="transformer",
        blocks="h",
        final_norm="ln_f",
        attention="attn",
        output_projection="attn.c_proj",
        value_projection="attn.c_attn",
        value_layout="tail",
        attention_norm="ln_1",
        attention_output="attn.c_proj",
        mlp_input="ln_2",
        linear_targets=("c_attn", "c_proj"),
        scaled_targets=("c_attn",),
        mlp_last_map="mlp.c_proj",
    ),
    Family(
        model_type="gpt_neox",
        name="GPT-NeoX",
        body="gpt_neox",
        final_norm="final_layer_norm",
        attention="attention",
        output_projection="attention.dense",
        value_projection="attention.query_key_value",
        value_layout="interleaved",
        attention_output="attention.dense",
        parallel_flag="use_parallel_residual",
        linear_targets=("query_key_value", "dense"),
        scaled_targets=("query_key_value",),
        mlp_last_map="mlp.dense_4h_to_h",
    ),
    Family(
        model_type="opt",
        name="OPT",
        body="model.decoder",
        final_norm="final_layer_norm",
        project_out="project_out",
        output_projection="self_attn.out_proj",
        attention_norm="self_attn_layer_norm",
        pre_norm_flag="do_layer_norm_before",
        attention_output="self_attn.out_proj",
        mlp_output="fc2",
        mlp_input="final_layer_norm",
        linear_targets=("q_proj", "k_proj", "v_proj", "out_proj"),
        mlp_last_map="fc2",
    ),
    Family(
        model_type="phi3",
        name="Phi-3",
        value_projection="self_attn.qkv_proj",
        value_layout="tail",
        linear_targets=("qkv_proj", "o_proj"),
        scaled_targets=("qkv_proj",),
    ),
    Family(
        model_type="olmo2",
        name="OLMo 2",
        attention_norm="",
        attention_output="post_attention_layernorm",
        mlp_output="post_feedforward_layernorm",
        mlp_input="mlp",
        post_attention_norm="post_attention_layernorm",
    ),
    Family(model_type="mixtral", name="Mixtral"),
    Family(model_type="qwen3_moe", name="Qwen3-MoE"),
)

FAMILIES: dict[str, Family] = {family.model_type: family for family in _FAMILIES}
"""Supported families by the `model_type` of their transformers config."""
