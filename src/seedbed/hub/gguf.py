"""Models in GGUF files: config, weights and tokenizer, translated for the families."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.hub.gguf_file import GgufFile, open_gguf_file
from seedbed.hub.gguf_tokenizer import generation_settings, read_tokenizer
from seedbed.hub.published import PublishedTensors
from seedbed.models.family import Config, Family, GgufForm, Network
from seedbed.models.network import FAMILIES, family, require_plausible, require_vocabulary
from seedbed.nn.config import PositionConfig, RotaryScaling
from seedbed.nn.positions import rotary_frequencies
from seedbed.text.tokenizer import Tokenizer

SUFFIX = ".gguf"
EMBEDDING, OUTPUT, FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file."""
    return path.suffix == SUFFIX and path.is_file()


def fill_from_gguf(path: Path, config: Config, *, dtype: torch.dtype, device: torch.device) -> Network:
    """The network of a GGUF file whose config has been read, in evaluation mode. Errors: BundleError."""
    with open_gguf_file(path) as file:
        return _matching_tensors(file, config).fill(config, path, dtype=dtype, device=device)


def inspect_gguf(path: Path) -> tuple[Config, Tokenizer | None, dict[str, Any]]:
    """The config, tokenizer and generation settings of a GGUF file. Errors: BundleError naming the file."""
    with open_gguf_file(path) as file:
        chosen = _family_of(file)
        try:
            config = chosen.read_config(_translate(file) | {"model_type": chosen.model_type})
        except ConfigError as error:
            raise BundleError(str(error)) from None
        _matching_tensors(file, config)
        tokenizer = read_tokenizer(file)
        require_vocabulary(tokenizer, config, allow_added=True)
        return config, tokenizer, generation_settings(file)


def _matching_tensors(file: GgufFile, config: Any) -> PublishedTensors:
    """The tensors of a file, if their names and shapes match the config; no block is read."""
    form = _family_of(file).gguf
    assert form is not None
    num_layers = len(file.tensors) // sum("{i}" in name for name in form.names)
    if config.num_layers > num_layers:
        raise BundleError(f"its {len(file.tensors)} tensors are too few for {config.num_layers} layers")
    num_values = sum(tensor.num_values for tensor in file.tensors.values())
    require_plausible(config, len(file.tensors), num_values, "numbers")
    names = {_published(name, form): name for name in file.tensors if name != FACTORS}
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    heads = {"attn_q": config.num_heads, "attn_k": config.kv_heads} if form.interleaved else {}
    tensors = PublishedTensors(names, shapes, partial(_read_published, file=file, form=form, heads=heads))
    tensors.require_shapes(config)
    return tensors


def gguf_numbers(path: Path) -> Counter[str]:
    """The number of values in a GGUF file by quantization, such as `F16` or `Q4_0`."""
    counts: Counter[str] = Counter()
    with open_gguf_file(path) as file:
        for tensor in file.tensors.values():
            counts[tensor.quantization.name] += tensor.num_values
    return counts


def _family_of(file: GgufFile) -> Family:
    parts = file.get("split.count", int, 1)
    if parts > 1:
        raise BundleError(f"it is one of {parts} parts; join them with `llama-gguf-split --merge`")
    known = {name: family(name) for name in FAMILIES.names() if family(name).gguf is not None}
    if (architecture := file.get("general.architecture", str)) not in known:
        hint = nearest(architecture[:40], known)
        raise BundleError(f"its architecture is {architecture[:40]!r}, unknown here; {hint}")
    return known[architecture]


def _translate(file: GgufFile) -> dict[str, Any]:
    """The metadata as the values of the family's `config.json`."""
    prefix = file.get("general.architecture", str) + "."
    if EMBEDDING not in file.tensors:
        raise BundleError(f"it lacks the tensor {EMBEDDING}")
    d_model, num_heads = (file.get(prefix + key, int) for key in ("embedding_length", "attention.head_count"))
    if num_heads < 1:
        raise BundleError(f"{prefix}attention.head_count={num_heads} must be at least 1")
    head_dim = file.get(prefix + "attention.key_length", int, d_model // num_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if file.get(prefix + key, int, head_dim) != head_dim:
            raise BundleError(
                f"{prefix}{key} differs from the {head_dim} of a head, which no family here allows; take "
                "another file"
            )
    base = file.get(prefix + "rope.freq_base", float, 10_000.0)
    return {
        "hidden_size": d_model,
        "num_hidden_layers": file.get(prefix + "block_count", int),
        "num_attention_heads": num_heads,
        "num_key_value_heads": file.get(prefix + "attention.head_count_kv", int, num_heads),
        "head_dim": head_dim,
        "intermediate_size": file.get(prefix + "feed_forward_length", int),
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "max_position_embeddings": file.get(prefix + "context_length", int),
        "rms_norm_eps": file.get(prefix + "attention.layer_norm_rms_epsilon", float),
        "rope_theta": base,
        "rope_scaling": _scaling(file, prefix, base, head_dim),
        "tie_word_embeddings": OUTPUT not in file.tensors,
    }


def _scaling(file: GgufFile, prefix: str, base: float, head_dim: int) -> dict[str, Any] | None:
    kind = file.get(prefix + "rope.scaling.type", str, "none")
    if kind not in ("none", ""):
        return {"rope_type": kind[:40], "factor": file.get(prefix + "rope.scaling.factor", float, 1.0)}
    if FACTORS not in file.tensors:
        return None
    # LLaMA 3.1 and later: the file has the factors themselves, one per frequency. Recover their settings.
    if file.tensors[FACTORS].shape != (head_dim // 2,):
        raise BundleError(f"{FACTORS} has the shape {file.tensors[FACTORS].shape}, not ({head_dim // 2},)")
    factors = file.read(FACTORS)
    if torch.allclose(factors, torch.ones_like(factors)):
        return None
    scaling = RotaryScaling(kind="llama3", factor=max(1.0, float(factors.max())))
    position = PositionConfig(kind="rotary", rotary_base=base, scaling=scaling)
    plain = rotary_frequencies(replace(position, scaling=None), head_dim)
    scaled = rotary_frequencies(position, head_dim)
    if not torch.allclose(plain / scaled, factors.to(plain), rtol=1e-4):
        raise BundleError(
            f"{FACTORS} scales positions in an unknown way; allowed: LLaMA 3's; take another file"
        )
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_positions,
    }


def _read_published(name: str, *, file: GgufFile, form: GgufForm, heads: Mapping[str, int]) -> Tensor:
    """A tensor by its name in the file, with its rows and values as published; `heads` of rotary matrices."""
    tensor = file.read(name)
    num_heads = heads.get(name.split(".")[-2] if "." in name else "", 0)
    if num_heads and tensor.size(0) % (2 * num_heads) == 0:
        # Rotary pairs are side by side in the file, half a head apart in the published weights.
        tensor = tensor.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
    return tensor - 1 if form.norms_from_one and name.endswith("_norm.weight") else tensor


def _published(name: str, form: GgufForm) -> str:
    """The published name of a tensor; one that the family does not know is not changed, and refused later."""
    layer = re.match(r"blk\.(\d{1,6})\.", name)
    pattern = name if layer is None else "blk.{i}." + name[layer.end() :]
    part, _, suffix = pattern.rpartition(".")
    if part not in form.names:
        return name
    return form.names[part].replace("{i}", layer[1] if layer else "") + "." + suffix
