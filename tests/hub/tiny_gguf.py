"""GGUF files of tiny models, written by the `gguf` package's own writer."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch

from seedbed.models.network import build, export_tensors, family, initialize

LAYERS, HEADS, KV_HEADS = 2, 4, 2


def make_model(name: str, vocab_size: int, *, head_dim: int | None = None, **fields: Any) -> Any:
    """A model with weights so large that logits are of order 10, and that every bias and norm shows."""
    config = replace(family(name).sized(64, LAYERS), vocab_size=vocab_size, max_positions=48, d_ff=96)
    config = replace(config, num_heads=HEADS, **fields)
    module = build(config.with_attention(num_kv_heads=KV_HEADS, head_dim=head_dim)).eval()
    generator = torch.Generator().manual_seed(0)
    initialize(module, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
            elif name != "llama":
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return module


def make_llama(vocab_size: int, *, tied: bool = False) -> Any:
    """A LLaMA with weights so large that logits are of order 10."""
    return make_model("llama", vocab_size, tie_embeddings=tied)


def metadata(module: Any, **changes: Any) -> dict[str, Any]:
    """The metadata of a config; a change to None leaves a key out."""
    values = {
        "block_count": module.config.num_layers,
        "context_length": module.config.max_positions,
        "embedding_length": module.config.d_model,
        "feed_forward_length": module.config.d_ff,
        "attention.head_count": module.config.num_heads,
        "attention.head_count_kv": module.config.kv_heads,
        "attention.layer_norm_rms_epsilon": module.config.norm_eps,
        "rope.freq_base": module.config.position.rotary_base,
    }
    if module.config.attention.head_dim:
        values |= {
            "attention.key_length": module.config.d_head,
            "attention.value_length": module.config.d_head,
        }
    given = {f"{module.config.family}.{key}": value for key, value in values.items()} | changes
    return {key: value for key, value in given.items() if value is not None}


def tokenizer_metadata(core: tokenizers.Tokenizer, pre: str, **changes: Any) -> dict[str, Any]:
    """The metadata of a byte-level tokenizer; its first two tokens are special tokens."""
    vocabulary = core.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = [" ".join(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    values = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, *[1] * (len(tokens) - 2)],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value) if value >= 0 else writer.add_int32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def interleave(w: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's converter lays them (convert_hf_to_gguf.py, LlamaModel.permute)."""
    return w.reshape(num_heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def write(
    path: Path,
    module: Any,
    quantization: str = "F32",
    *,
    architecture: str | None = None,
    values: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a network as a GGUF file -> its path, and its weights by their published names."""
    kind = gguf.GGMLQuantizationType[quantization]
    name = module.config.family
    writer = gguf.GGUFWriter(path, architecture or name)
    for key, value in (metadata(module) if values is None else values).items():
        _add(writer, key, value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], module.config.num_layers)
    weights = {}
    for published, tensor in export_tensors(module).items():
        base, _, suffix = published.rpartition(".")
        their = names.get_name(base)
        w, of_type = tensor.detach().numpy(), kind if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(w, of_type)
        weights[published] = torch.from_numpy(gguf.quants.dequantize(stored, of_type).copy())
        if name == "llama" and their.endswith(("attn_q", "attn_k")):
            stored = interleave(stored, HEADS if their.endswith("q") else KV_HEADS)
        if name == "gemma" and their.endswith("_norm"):  # convert_hf_to_gguf.py, GemmaModel.modify_tensors
            stored = stored + 1
        writer.add_tensor(f"{their}.{suffix}", stored, raw_dtype=of_type)
    for their, array in (extra or {}).items():
        writer.add_tensor(their, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, weights
