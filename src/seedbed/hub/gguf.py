"""Models out of GGUF files: the config, the weights and the tokenizer, as our families know them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.hub.finite import warn_unless_finite
from seedbed.hub.gguf_file import GgufFile, open_gguf_file
from seedbed.hub.gguf_tokenizer import generation_settings, read_tokenizer
from seedbed.models.family import Config, Family, GgufForm, Network
from seedbed.models.network import (
    FAMILIES,
    build,
    family,
    import_tensors,
    require_plausible,
    require_vocabulary,
)
from seedbed.nn.config import PositionConfig, RotaryScaling
from seedbed.nn.positions import rotary_frequencies
from seedbed.text.tokenizer import Tokenizer

SUFFIX = ".gguf"
EMBEDDING, OUTPUT, FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"


def is_gguf(path: Path) -> bool:
    """Tell whether a path is a GGUF file's."""
    return path.suffix == SUFFIX and path.is_file()


def open_gguf(
    path: Path, *, dtype: torch.dtype, device: torch.device
) -> tuple[Network, Tokenizer | None, dict[str, Any]]:
    """The network of a GGUF file, its tokenizer if it has one, and its generation settings.

    Errors: BundleError naming the file, what in it is unknown, damaged or contradictory, and what to do.
    """
    with open_gguf_file(path) as file:
        config, tokenizer, generation = _require_whole(file)
        with torch.no_grad():
            module = build(config, device).to(dtype)
            import_tensors(module, _Tensors(file, _family_of(file)[1], config))
        warn_unless_finite(path, file.not_finite)
    return module.eval(), tokenizer, generation


def inspect_gguf(path: Path) -> tuple[Config, Tokenizer | None, dict[str, Any]]:
    """What `open_gguf` gives, the config for the network: all is checked that can be without the weights."""
    with open_gguf_file(path) as file:
        return _require_whole(file)


@torch.no_grad()
def _require_whole(file: GgufFile) -> tuple[Config, Tokenizer | None, dict[str, Any]]:
    """The config, tokenizer and generation settings of a file whose tensors are all there, in their shapes.

    What is missing, unknown or misshapen is told without memory, before a block is read.
    """
    chosen, form = _family_of(file)
    config = _config(file, chosen)
    num_layers = len(file.tensors) // sum("{i}" in name for name in form.names)
    if config.num_layers > num_layers:
        raise BundleError(f"its {len(file.tensors)} tensors are too few for {config.num_layers} layers")
    num_values = sum(tensor.num_values for tensor in file.tensors.values())
    require_plausible(config, len(file.tensors), num_values, "numbers")
    tokenizer = read_tokenizer(file)
    require_vocabulary(tokenizer, config)
    import_tensors(build(config, "meta"), _Tensors(file, form, config, without_memory=True))
    return config, tokenizer, generation_settings(file)


def read_gguf_config(path: Path) -> Config:
    """The config of a GGUF file, its tensors not read."""
    with open_gguf_file(path) as file:
        return _config(file, _family_of(file)[0])


def gguf_numbers(path: Path) -> Counter[str]:
    """How many numbers of a GGUF file have each quantization, `F16` or `Q4_0` for example."""
    counts: Counter[str] = Counter()
    with open_gguf_file(path) as file:
        for tensor in file.tensors.values():
            counts[tensor.quantization.name] += tensor.num_values
    return counts


def _family_of(file: GgufFile) -> tuple[Family, GgufForm]:
    parts = file.integer("split.count", 1)
    if parts > 1:
        raise BundleError(f"it is one of {parts} parts; join them with `llama-gguf-split --merge`")
    forms = [(one, one.gguf) for one in map(family, FAMILIES.names()) if one.gguf is not None]
    wanted = file.text("general.architecture")
    for one, form in forms:
        if wanted in form.architectures:
            return one, form
    known = [architecture for _, form in forms for architecture in form.architectures]
    raise BundleError(f"its architecture is {wanted[:40]!r}, unknown here; {nearest(wanted[:40], known)}")


def _config(file: GgufFile, chosen: Family) -> Config:
    values = _translate(file) | {"model_type": chosen.model_types[0]}
    try:
        return chosen.read_config(values)
    except ConfigError as error:
        raise BundleError(str(error)) from None


def _translate(file: GgufFile) -> dict[str, Any]:
    """The metadata as the family's `config.json` would say it."""
    prefix = file.text("general.architecture") + "."
    if EMBEDDING not in file.tensors:
        raise BundleError(f"it lacks the tensor {EMBEDDING}")
    d_model, num_heads = (file.integer(prefix + key) for key in ("embedding_length", "attention.head_count"))
    if num_heads < 1:
        raise BundleError(f"{prefix}attention.head_count={num_heads} must be at least 1")
    head_dim = file.integer(prefix + "attention.key_length", d_model // num_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if file.integer(prefix + key, head_dim) != head_dim:
            raise BundleError(
                f"{prefix}{key} differs from the {head_dim} of a head, which no family here allows; take "
                "another file"
            )
    base = file.real(prefix + "rope.freq_base", 10_000.0)
    return {
        "hidden_size": d_model,
        "num_hidden_layers": file.integer(prefix + "block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": file.integer(prefix + "attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "intermediate_size": file.integer(prefix + "feed_forward_length"),
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "max_position_embeddings": file.integer(prefix + "context_length"),
        "rms_norm_eps": file.real(prefix + "attention.layer_norm_rms_epsilon"),
        "rope_theta": base,
        "rope_scaling": _scaling(file, prefix, base, head_dim),
        "tie_word_embeddings": OUTPUT not in file.tensors,
    }


def _scaling(file: GgufFile, prefix: str, base: float, head_dim: int) -> dict[str, Any] | None:
    kind = file.text(prefix + "rope.scaling.type", "none")
    if kind not in ("none", ""):
        return {"rope_type": kind[:40], "factor": file.real(prefix + "rope.scaling.factor", 1.0)}
    if FACTORS not in file.tensors:
        return None
    # LLaMA 3.1 and later: the file holds the factors themselves, one a frequency. Find what made them.
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
            f"{FACTORS} scales positions in a way unknown here; allowed: LLaMA 3's; take another file"
        )
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_positions,
    }


class _Tensors(Mapping[str, Tensor]):
    """The file's tensors under the names that the family publishes, expanded one at a time."""

    def __init__(self, file: GgufFile, form: GgufForm, config: Any, *, without_memory: bool = False) -> None:
        self._file, self._without_memory = file, without_memory
        self._heads = {"attn_q": config.num_heads, "attn_k": config.kv_heads} if form.interleaved else {}
        self._norms_from_one = form.norms_from_one
        self._names = {_published(name, form): name for name in file.tensors if name != FACTORS}

    def __getitem__(self, name: str) -> Tensor:
        their = self._names[name]
        if self._without_memory:
            return torch.empty(self._file.tensors[their].shape, device="meta")
        tensor = self._file.read(their)
        num_heads = self._heads.get(their.split(".")[-2] if "." in their else "", 0)
        if num_heads and tensor.size(0) % (2 * num_heads) == 0:
            # Rotary pairs lie side by side in the file, half a head apart in the published weights.
            tensor = tensor.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        return tensor - 1 if self._norms_from_one and their.endswith("_norm.weight") else tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _published(name: str, form: GgufForm) -> str:
    """The published name of a tensor; one that the family does not know keeps its own, and is told."""
    layer = re.match(r"blk\.(\d{1,6})\.", name)
    pattern = name if layer is None else "blk.{i}." + name[layer.end() :]
    part, _, suffix = pattern.rpartition(".")
    if part not in form.names:
        return name
    return form.names[part].replace("{i}", layer[1] if layer else "") + "." + suffix
