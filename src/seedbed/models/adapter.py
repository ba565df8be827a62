"""The contract of the files in `seedbed.peft`, and the places of a network that an adapter can change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from seedbed.base.errors import ConfigError
from seedbed.base.plugins import PluginPackage
from seedbed.models.family import Network
from seedbed.models.network import depth, family
from seedbed.models.weights import Storage, expand
from seedbed.nn.linear import LinearLike, Projection, linear_modules

# Modules behind the body of a network with labels: they are trained whole, and are in the adapter's file.
HEAD = ("transform", "pooler", "classifier")


class Site(NamedTuple):
    """A weight matrix as a family publishes it: some parts of the Linear-like module at `path`.

    `published` is the name of its module there. A fused matrix (q, k and v of GPT-2) is one site.
    """

    path: str
    parts: tuple[str, ...]
    published: str
    storage: Storage
    in_layer: bool

    def names(self) -> list[str]:
        """All of its names: of its parts here, and the published one."""
        parent = self.path.rpartition(".")[0]
        return [*(f"{parent}.{part}".lstrip(".") for part in self.parts), self.published]


def sites(module: Network) -> list[Site]:
    """The weight matrices of a network that an adapter can change, in the order of its family's rules."""
    owners: dict[str, tuple[str, str]] = {}
    for path, linear in linear_modules(module):
        parent = path.rpartition(".")[0]
        owners |= {f"{parent}.{part}".lstrip("."): (path, part) for part in linear.parts}
    found = []
    for rule in family(module.config.family).rules(module.config):
        for names, theirs, storage in expand([rule], depth(module.config)):
            own = [owners.get(name.removesuffix(".weight")) for name in names]
            if not names[0].endswith(".weight") or None in own:
                continue
            places = [place for place in own if place is not None]
            parts = tuple(part for _, part in places)
            published = theirs.removesuffix(".weight")
            found.append(Site(places[0][0], parts, published, storage, "{i}" in rule.theirs))
    return found


def matching_sites(module: Network, targets: str | Sequence[str]) -> list[Site]:
    """The sites that patterns select; `all`: those of the layers, without the output.

    A pattern is a name or the end of one, here or as published: `q`, `attn.q`, `q_proj`, `decoder.*.out`.
    Errors: ConfigError for a pattern that matches nothing.
    """
    whole = head_modules(module)
    known = [site for site in sites(module) if site.path.partition(".")[0] not in whole]
    patterns = [targets] if isinstance(targets, str) else list(targets)
    chosen = dict.fromkeys(site for site in known if site.in_layer and "all" in patterns)
    for pattern in patterns:
        found = [site for site in known if any(_matches(name, pattern) for name in site.names())]
        if not found and pattern != "all":
            ends = dict.fromkeys(name.rpartition(".")[2] for site in known for name in site.names())
            raise ConfigError(
                f"peft.targets={pattern!r} matches no projection of this {module.config.family}; allowed: "
                f"all, or names such as {', '.join(ends)}"
            )
        chosen |= dict.fromkeys(found)
    return [site for site in known if site in chosen]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def by_path(found: Iterable[Site]) -> dict[str, list[Site]]:
    """The sites of each Linear-like module."""
    grouped: dict[str, list[Site]] = {}
    for site in found:
        grouped.setdefault(site.path, []).append(site)
    return grouped


def linear_at(module: nn.Module, path: str) -> LinearLike:
    """The Linear-like module at a path."""
    found = module.get_submodule(path)
    assert isinstance(found, LinearLike)
    return found


@torch.no_grad()
def merged(wrapper: Any) -> nn.Module:
    """The plain module with the dense weight of a wrapper, in the memory of its `base` if that is plain."""
    weight, bias = wrapper.dense()
    base: nn.Module = wrapper.base
    if isinstance(base, Projection):
        base.weight.copy_(weight)
        return base
    plain = Projection(wrapper.in_features, wrapper.parts, bias=bias is not None).to(weight)
    plain.weight.copy_(weight)
    if bias is not None:
        plain.bias.copy_(bias)
    return plain


def freeze(module: Network) -> None:
    """Leave only the head of a network with labels trainable, in float32 whatever the type of the base is."""
    module.requires_grad_(False)
    for own in head_modules(module).values():
        own.float().requires_grad_(True)


def head_modules(module: Network) -> dict[str, nn.Module]:
    """The modules behind the body of a network with labels; none of any other."""
    if not module.config.head.labels:
        return {}
    return {name: own for name in HEAD if (own := getattr(module, name, None)) is not None}


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """The content of an adapter's folder in the format of the `peft` library.

    `config` is adapter_config.json, `tensors` are those of the method by their names there, without the
    common prefix; those of a trained head are stored beside them by the caller.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Method(ABC):
    """A way to adapt a network with few parameters, made of the `[peft]` table.

    - `settings_class`: the keys of `[peft]`, a frozen dataclass whose `method` is the file's name.
    - `peft_type`: its name in adapter_config.json; empty where the `peft` library does not have it.
    - `training`: the defaults of `[training]` that differ with it.
    """

    settings_class: ClassVar[type[Any]]
    peft_type: ClassVar[str] = ""
    training: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """Keep the settings."""

    @abstractmethod
    def apply(self, module: Network, generator: torch.Generator) -> None:
        """Freeze the network and put the trainable modules into it; its output is unchanged.

        On the meta device nothing is initialized. Errors: ConfigError where the network has no place for it.
        """

    @abstractmethod
    def merge(self, module: Network) -> None:
        """Put what was learned into the weights, so that no module of the method is left."""

    @abstractmethod
    def remove(self, module: Network) -> None:
        """Take the modules of the method out again: the network is its base, with its own modules."""

    @abstractmethod
    def export(self, module: Network) -> AdapterFile:
        """The content of its files, for a network that it was applied to."""

    @classmethod
    @abstractmethod
    def load(cls, module: Network, file: AdapterFile) -> Any:
        """Apply an adapter from its files, and return its settings.

        Errors: BundleError for a file with something that is not supported, or of another network.
        """


METHODS: PluginPackage[type[Method]] = PluginPackage("seedbed.peft", "METHOD")
