"""Small models and dequantised ones as GGUF files of float32, for llama.cpp to read."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import Tensor


def write_tiny(hf: Any, path: Path) -> None:
    """A small llama or qwen3 without a vocabulary: llama.cpp takes and gives token ids."""
    config, kind = hf.config, hf.config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    arch = gguf.MODEL_ARCH.LLAMA if kind == "llama" else gguf.MODEL_ARCH.QWEN3
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, weight in hf.state_dict().items():
        value = weight.float()
        if kind == "llama" and ("q_proj" in name or "k_proj" in name):
            value = _interleaved(value, config.head_dim)
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")),
            np.ascontiguousarray(value.numpy()),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dequantise(source: Path, path: Path) -> None:
    """Another file with the same keys, and all weights as the numbers that they stand for."""
    reader = gguf.GGUFReader(source)
    infos, offset = b"", 0
    for tensor in reader.tensors:
        name, shape = tensor.name.encode(), [int(n) for n in tensor.shape]
        infos += struct.pack("<Q", len(name)) + name
        infos += struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)  # 0: float32
        offset += _padded(4 * int(tensor.n_elements))
    keys = source.read_bytes()[: int(reader.tensors[0].field.offset)]
    with path.open("wb") as file:
        file.write((keys + infos).ljust(_padded(len(keys + infos)), b"\0"))
        for tensor in reader.tensors:
            value = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            file.write(value.tobytes().ljust(_padded(value.nbytes), b"\0"))


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // gguf.GGUF_DEFAULT_ALIGNMENT) * gguf.GGUF_DEFAULT_ALIGNMENT


def _interleaved(weight: Tensor, d_head: int) -> Tensor:
    """Rotary pairs side by side, as llama.cpp has them in llama; in transformers they are apart."""
    pairs = weight.view(-1, 2, d_head // 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)
