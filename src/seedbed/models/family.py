"""What a family's file says: its published config and weights in our terms, sizes, initialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import ModelConfig, PositionConfig, RecurrentConfig, RotaryScaling

Config = ModelConfig | RecurrentConfig
Network = Transformer | RecurrentNetwork


@dataclass(frozen=True, kw_only=True)
class GgufForm:
    """How GGUF files hold a family's weights.

    `architectures` are those that are read; `names` leads from a tensor's name there, without its suffix, to
    the published one, `{i}` being the layer; `interleaved`: the pairs that rotary positions turn lie side by
    side in the rows of q and k.
    """

    architectures: tuple[str, ...]
    names: Mapping[str, str]
    interleaved: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A line of published models.

    `model_types` are those of `config.json` that it reads, the first is the one that it writes;
    `architecture` the class that other tools load it with, None where there is none. `read_config` and
    `write_config` translate `config.json`; `sized` makes a config in the family's own proportions from a
    width and a depth; `ignored` are patterns of tensors in published files that hold nothing learnt;
    `prefix` begins the names of all tensors but the output's, and lacks where a file was saved without it;
    `gguf` says how GGUF files hold it, None where they are not read.
    """

    name: str
    model_types: tuple[str, ...]
    architecture: str | None
    presets: Mapping[str, Config]
    read_config: Callable[[Mapping[str, Any]], Config]
    write_config: Callable[[Any], dict[str, Any]]
    sized: Callable[[int, int], Config]
    rules: Callable[[Any], Sequence[Rule]]
    initialize: Callable[[Any, torch.Generator], None]
    ignored: tuple[str, ...] = ()
    prefix: str = ""
    gguf: GgufForm | None = None

    def preset(self, size: str) -> Config:
        """The config of a published size."""
        if size not in self.presets:
            raise ConfigError(f"{self.name} has no preset {size!r}; {nearest(size, self.presets)}")
        return self.presets[size]


def own_config(config: Config) -> dict[str, Any]:
    """The `config.json` of a family without a public class: our own fields, and a `model_type` of ours."""
    values = asdict(config)
    return {"model_type": f"seedbed_{values.pop('family')}"} | values


def read_own_config(values: Mapping[str, Any], config_class: type[Config]) -> Config:
    """The config that `own_config` wrote."""
    known = {f.name for f in fields(config_class)}
    given = {key: value for key, value in values.items() if key in known}
    family = str(values["model_type"]).removeprefix("seedbed_")
    missing = [f.name for f in fields(config_class) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in missing if name not in given and name != "family"]
    if missing:
        raise BundleError(
            f"config.json of {values['model_type']} lacks {', '.join(missing)}; take the whole bundle again"
        )
    try:
        if isinstance(given.get("position"), dict):
            position = dict(given["position"])
            if position.get("scaling"):
                position["scaling"] = RotaryScaling(**position["scaling"])
            given["position"] = PositionConfig(**position)
        return config_class(family=family, **given)
    except TypeError as error:
        raise BundleError(
            f"config.json of {values['model_type']} does not fit {config_class.__name__}: {error}"
        ) from None
