"""Models by name: a folder, a GGUF file, an installed package, one on the hub, a preset, fresh weights."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import torch

from seedbed.api.run_settings import ModelSettings, sized_fields
from seedbed.base.errors import BundleError, ConfigError
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.bundle import CONFIG, open_bundle, vector_settings
from seedbed.hub.download import download, is_hub_name
from seedbed.hub.package import PREFIX, package_model
from seedbed.models.family import Config
from seedbed.models.network import build, family, initialize, preset
from seedbed.text.tokenizer import Tokenizer

DEFAULT_WIDTH, DEFAULT_DEPTH = 256, 4


def load(
    model: str | Path, *, dtype: str = "float32", device: str = "cpu", allow_pickle: bool = False
) -> LanguageModel:
    """Load a model: a bundle's folder, a run's, a `.gguf` file, `package:NAME`, or `org/name` of the hub.

    `org/name@revision` is the model at a branch, a tag or a commit; a path that exists comes first.
    `allow_pickle` reads weights that are there as `pytorch_model.bin` alone, and no more than tensors.
    Errors: BundleError naming what is missing, damaged or contradictory.
    """
    path = locate(model, allow_pickle=allow_pickle)
    module, tokenizer, generation = open_bundle(path, dtype=dtype, device=device, allow_pickle=allow_pickle)
    return LanguageModel(module, tokenizer, generation=generation, vectors=vector_settings(path))


def is_model(model: str | Path) -> bool:
    """Tell whether a name is of a model that lies somewhere: a path, `package:NAME`, a name on the hub."""
    name = str(model)
    return name.startswith(PREFIX) or Path(model).expanduser().exists() or is_hub_name(name)


def locate(model: str | Path, *, weights: bool = True, allow_pickle: bool = False) -> Path:
    """Where a model lies: the folder that holds `config.json`, or a GGUF file.

    It is the path named, `model` in a run's folder, the one `.gguf` file of a folder without a config, what
    an installed package carries, or where the hub's model was downloaded to: without `weights` its config
    and tokenizer alone, pickles only if they are allowed.
    """
    if str(model).startswith(PREFIX):
        return package_model(str(model).removeprefix(PREFIX))
    path = Path(model).expanduser()
    if not path.exists() and is_hub_name(str(model)):
        return download(str(model), weights=weights, allow_pickle=allow_pickle)
    if not path.exists():
        raise BundleError(
            f"no model lies at {model}; give a bundle's or a run's folder, a .gguf file, package:NAME or "
            "org/name on the hub"
        )
    inner = path / "model"
    if not (path / CONFIG).exists() and inner.is_dir():
        return inner
    if not (path / CONFIG).exists() and (path / "settings.toml").exists():
        raise BundleError(f"the run in {path} has no model yet; run its command again to finish it")
    if path.is_dir() and not (path / CONFIG).exists():
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise BundleError(f"{path} holds {len(files)} models; give the path of one: {files[0]}")
        return files[0] if files else path
    return path


def new(config: str | Config, *, tokenizer: Tokenizer | None = None, seed: int = 0) -> LanguageModel:
    """A freshly initialised model, as its family publishes, of a preset (`gpt2:124m`) or of a config."""
    config = preset(config) if isinstance(config, str) else config
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the config has vocab_size="
            f"{config.vocab_size}; raise it to at least {tokenizer.vocab_size}"
        )
    module = build(config)
    initialize(module, torch.Generator().manual_seed(seed))
    return LanguageModel(module.eval(), tokenizer)


def configure(settings: ModelSettings, *, vocab_size: int, context_tokens: int) -> Config:
    """The config that the settings ask for, over a vocabulary and a context."""
    chosen = family(settings.family)
    if settings.preset is not None:
        config = chosen.preset(settings.preset)
        if settings.d_model or settings.num_layers:
            raise ConfigError(
                "model.preset has a width and a depth; leave out model.d_model and model.num_layers"
            )
    else:
        config = chosen.sized(settings.d_model or DEFAULT_WIDTH, settings.num_layers or DEFAULT_DEPTH)
    changes = sized_fields(settings)
    known = {f.name for f in fields(config)}
    if foreign := [name for name in changes if name not in known]:
        raise ConfigError(f"the family {settings.family} has no {foreign[0]}; leave model.{foreign[0]} out")
    if "max_positions" in known:
        changes.setdefault("max_positions", context_tokens)
        if changes["max_positions"] < context_tokens:
            raise ConfigError(
                f"training.context_tokens={context_tokens} is more than model.max_positions="
                f"{changes['max_positions']}; raise the latter or leave it out"
            )
    return replace(config, vocab_size=vocab_size, **changes)
