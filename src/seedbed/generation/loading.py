"""A language model by its name, or with new weights."""

from __future__ import annotations

from pathlib import Path

import torch

from seedbed.base.arguments import bool_of, brief, choice_of, text_of, whole_of
from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.adapter import Adapter
from seedbed.hub.adapter_file import is_adapter
from seedbed.hub.base import Base
from seedbed.hub.bundle import DTYPES, open_bundle, vector_settings
from seedbed.hub.locate import locate
from seedbed.models.family import Config
from seedbed.models.network import build, initialize, preset, require_vocabulary
from seedbed.nn.config import ModelConfig, RecurrentConfig
from seedbed.text.tokenizer import Tokenizer


def load(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    allow_pickle: bool = False,
) -> LanguageModel:
    """Load a model: a bundle's folder, a run's, a `.gguf` file, `package:NAME`, or `org/name` of the hub.

    `org/name@revision` is the model at a branch, a tag or a commit; a path that exists takes precedence.
    An adapter's folder is loaded with the base that it names; `adapter` puts one on another model, or one
    whose files name none. It stays beside the weights, in float32, until `merge`.
    `allow_pickle` reads weights that exist as `pytorch_model.bin` only, and only their tensors.
    Errors: BundleError naming what is missing, damaged or contradictory.
    """
    dtype, device = choice_of("dtype", dtype, DTYPES), text_of("device", device)
    allow_pickle = bool_of("allow_pickle", allow_pickle)
    path = locate(model, allow_pickle=allow_pickle)
    if adapter is not None or is_adapter(path):
        return _load_adapted(model, adapter, dtype=dtype, device=device, allow_pickle=allow_pickle)
    module, tokenizer, generation = open_bundle(path, dtype=dtype, device=device, allow_pickle=allow_pickle)
    return LanguageModel(module, tokenizer, generation=generation, vectors=vector_settings(path))


def _load_adapted(
    model: str | Path, adapter: str | Path | None, *, dtype: str, device: str, allow_pickle: bool
) -> LanguageModel:
    base = Base.open(model, adapter=adapter, allow_pickle=allow_pickle)
    assert base.parent is not None
    module, settings = base.adapted(dtype=dtype, device=device)
    vectors = vector_settings(base.parent.path)
    lm = LanguageModel(module, base.tokenizer, generation=base.generation, vectors=vectors)
    lm.adapter = Adapter(settings=settings, parent=base.parent)
    return lm


def new(config: str | Config, *, tokenizer: Tokenizer | None = None, seed: int = 0) -> LanguageModel:
    """A newly initialized model of a preset (`gpt2:124m`) or a config, initialized as its family is."""
    config = preset(config) if isinstance(config, str) else config
    if not isinstance(config, ModelConfig | RecurrentConfig):
        raise UsageError(f"config={brief(config)} is neither a preset's name nor a config; give gpt2:124m")
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        raise UsageError(f"tokenizer={brief(tokenizer)} is not a Tokenizer; give one, or None")
    seed = whole_of("seed", seed)
    require_vocabulary(tokenizer, config)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(seed))
    return LanguageModel(module.eval(), tokenizer)
