"""A language model by its name, or with new weights."""

from __future__ import annotations

from pathlib import Path

import torch

from seedbed.generation.language_model import LanguageModel
from seedbed.hub.bundle import open_bundle, vector_settings
from seedbed.hub.locate import locate
from seedbed.models.family import Config
from seedbed.models.network import build, initialize, preset, require_vocabulary
from seedbed.text.tokenizer import Tokenizer


def load(
    model: str | Path, *, dtype: str = "float32", device: str = "cpu", allow_pickle: bool = False
) -> LanguageModel:
    """Load a model: a bundle's folder, a run's, a `.gguf` file, `package:NAME`, or `org/name` of the hub.

    `org/name@revision` is the model at a branch, a tag or a commit; a path that exists takes precedence.
    `allow_pickle` reads weights that exist as `pytorch_model.bin` only, and only their tensors.
    Errors: BundleError naming what is missing, damaged or contradictory.
    """
    path = locate(model, allow_pickle=allow_pickle)
    module, tokenizer, generation = open_bundle(path, dtype=dtype, device=device, allow_pickle=allow_pickle)
    return LanguageModel(module, tokenizer, generation=generation, vectors=vector_settings(path))


def new(config: str | Config, *, tokenizer: Tokenizer | None = None, seed: int = 0) -> LanguageModel:
    """A newly initialized model of a preset (`gpt2:124m`) or a config, initialized as its family is."""
    config = preset(config) if isinstance(config, str) else config
    require_vocabulary(tokenizer, config)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(seed))
    return LanguageModel(module.eval(), tokenizer)
