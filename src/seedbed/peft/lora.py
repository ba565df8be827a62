"""LoRA (Hu et al. 2106.09685): beside each chosen weight matrix a product of two small ones is learned."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from typing import Any, Literal

import torch
from torch import Tensor

from seedbed.base.arguments import brief
from seedbed.base.errors import BundleError, ConfigError
from seedbed.models.adapter import (
    AdapterFile,
    Method,
    Site,
    by_path,
    freeze,
    linear_at,
    matching_sites,
    merged,
    sites,
)
from seedbed.models.family import Network
from seedbed.models.weights import from_heads, to_heads
from seedbed.nn.linear import linear_modules, replace
from seedbed.peft._low_rank import LowRank, Pair

# Keys of adapter_config.json with another value than these change the network in ways that are not supported.
UNSUPPORTED: Mapping[str, Sequence[Any]] = {
    "use_dora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "layer_replication": (None, []),
    "use_qalora": (None, False),
    "use_bdlora": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    # The other ways to begin change the base, too.
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
MAX_PATTERN = 200  # characters
# A repeated group that repeats something: it can take exponential time.
SLOW_PATTERN = re.compile(r"\)[*+{?]")


# That of a first try by others on DialogSum (rank 16, all projections); not compared with other rates yet.
TRAINING: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 5e-4,
    "min_learning_rate_ratio": 0.0,
    "weight_decay": 0.0,
    "beta2": 0.999,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[peft]` table of this method."""

    method: Literal["lora"] = "lora"  # the way to adapt, also --peft
    rank: int = 16  # inner size of the two matrices [1 or more]
    alpha: float = 32.0  # their product is multiplied by alpha / rank [above 0]
    # Projections that are adapted: all, or names such as "q, v", "attn.*" or "q_proj". [text or a list]
    targets: str | tuple[str, ...] = "all"
    rslora: bool = False  # multiply by alpha / sqrt(rank) instead (2312.03732)
    # Share of the inputs of the two matrices set to 0 in training. [0 or more and below 1]
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"peft.rank={self.rank} is not allowed: choose 1 or more")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"peft.alpha={self.alpha} is not allowed: choose a number above 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"peft.dropout={self.dropout} is not allowed: choose 0 or more and below 1")
        names = self.targets.split(",") if isinstance(self.targets, str) else self.targets
        names = tuple(name.strip() for name in names if name.strip())
        if not names:
            raise ConfigError("peft.targets is empty; give all, or the names of projections, such as q, v")
        object.__setattr__(self, "targets", names[0] if len(names) == 1 else names)


class Lora(Method):
    """Adapters beside projections; see `Settings`."""

    settings_class = Settings
    peft_type = "LORA"
    training = TRAINING

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def apply(self, module: Network, generator: torch.Generator) -> None:
        """Put the matrices beside the projections that `targets` selects."""
        settings = self.settings
        if _wrappers(module):
            raise ConfigError(
                "the network has an adapter already, and a second one is not supported; merge it"
            )
        scale = _scale(settings.alpha, settings.rank, rslora=settings.rslora)
        pairs = [Pair(site, settings.rank, scale) for site in matching_sites(module, settings.targets)]
        for pair in pairs:
            _require_rank(module, pair)
        _put(module, pairs, dropout=settings.dropout, generator=generator)

    def merge(self, module: Network) -> None:
        """Add the products to the weights; over packed weights the merged ones are dense."""
        for path, wrapper in _wrappers(module).items():
            replace(module, path, merged(wrapper))

    def remove(self, module: Network) -> None:
        """Put the modules that were wrapped back in their places."""
        for path, wrapper in _wrappers(module).items():
            replace(module, path, wrapper.base)

    def export(self, module: Network) -> AdapterFile:
        """The files of the `peft` library: `lora_A` and `lora_B` of each published module."""
        tensors: dict[str, Tensor] = {}
        chosen = []
        for wrapper in _wrappers(module).values():
            for number, pair in enumerate(wrapper.pairs):
                name, up = pair.site.published, wrapper.up[number].detach()
                if pair.site.storage == "per_head":
                    up = to_heads(up, len(pair.site.parts), _num_heads(module))
                tensors[f"{name}.lora_A.weight"] = wrapper.first(number).detach().contiguous()
                tensors[f"{name}.lora_B.weight"] = up.contiguous()
                chosen.append(pair)
        settings = self.settings
        config = {
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": settings.rslora,
            "target_modules": _target_modules(module, [pair.site for pair in chosen]),
            "fan_in_fan_out": any(pair.site.storage == "transposed" for pair in chosen),
            "bias": "none",
        }
        other = [pair for pair in chosen if pair.rank != settings.rank]
        usual = _scale(settings.alpha, settings.rank, rslora=settings.rslora)
        config["rank_pattern"] = {pair.site.published: pair.rank for pair in other}
        config["alpha_pattern"] = {
            pair.site.published: pair.scale * (math.sqrt(pair.rank) if settings.rslora else pair.rank)
            for pair in chosen
            if pair.rank != settings.rank or pair.scale != usual
        }
        return AdapterFile(config=config, tensors=tensors)

    @classmethod
    def load(cls, module: Network, file: AdapterFile) -> Settings:
        """Apply the matrices of a file, each with its own rank."""
        config, tensors = file.config, dict(file.tensors)
        _require_supported(config, tensors)
        own = _settings(config)
        known = {site.published: site for site in sites(module)}
        names = dict.fromkeys(name.partition(".lora_")[0] for name in tensors)
        if not tensors or (unknown := [name for name in names if name not in known]):
            what = f"adapts {unknown[0]!r}" if tensors else "has no matrices"
            raise BundleError(
                f"the adapter {what}, and this {module.config.family} has only projections such as "
                f"{', '.join(list(known)[:4])}; load it with the base that it was trained on"
            )
        pairs, values = [], {}
        for name in (name for name in known if name in names):
            try:
                first, second = (tensors.pop(f"{name}.lora_{end}.weight") for end in "AB")
            except KeyError as error:
                raise BundleError(f"the adapter lacks {error}; the file is cut") from None
            site, rank = known[name], len(first)
            _require_shapes(module, site, first, second)
            alpha = _of_pattern(config.get("alpha_pattern"), name, own.alpha)
            pairs.append(Pair(site, rank, _scale(alpha, rank, rslora=own.rslora)))
            if site.storage == "per_head":
                second = from_heads(second, len(site.parts), _num_heads(module))
            values[name] = (first, second)
        if tensors:
            raise BundleError(
                f"the adapter has {next(iter(tensors))}, which is not supported; train without it"
            )
        _put(module, pairs, dropout=own.dropout, values=values)
        return dataclass_replace(own, targets=tuple(_target_modules(module, [pair.site for pair in pairs])))


def _num_heads(module: Network) -> int:
    return int(getattr(module.config, "num_heads", 1))


def _require_supported(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse what changes the network in other ways."""
    for key, allowed in UNSUPPORTED.items():
        if config.get(key) not in allowed:
            raise BundleError(
                f"adapter_config.json has {key}={brief(config[key])}, which is not supported; train "
                "without it"
            )
    for name in tensors:
        if ".lora_embedding_" in name:
            raise BundleError(
                f"the adapter has {name}, LoRA on an embedding, which is not supported; train without it"
            )
        if ".lora_" not in name:
            raise BundleError(
                f"the adapter has the whole weights {name}, and only those of a head with labels are "
                "supported; train without modules_to_save"
            )


def _settings(config: Mapping[str, Any]) -> Settings:
    """The settings in adapter_config.json, without the targets; a key that it lacks has `peft`'s default."""
    rank, rslora = config.get("r", 8), config.get("use_rslora")
    if type(rank) is not int or rank < 1:
        raise BundleError(f"adapter_config.json has r={brief(rank)}; allowed: a whole number, 1 or more")
    if rslora not in (None, True, False):
        raise BundleError(f"adapter_config.json has use_rslora={brief(rslora)}; allowed: true or false")
    alpha = _number("lora_alpha", config.get("lora_alpha", 8))
    dropout = _number("lora_dropout", config.get("lora_dropout", 0.0))
    return Settings(rank=rank, alpha=alpha, dropout=dropout, rslora=bool(rslora))


def _number(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise BundleError(f"adapter_config.json has {key}={brief(value)}; allowed: a number")
    return float(value)


def _scale(alpha: float, rank: int, *, rslora: bool) -> float:
    return alpha / (math.sqrt(rank) if rslora else rank)


def _of_pattern(patterns: Any, name: str, usual: float) -> float:
    """The value of the first pattern, an expression for the end of a module's name, else the usual one."""
    if patterns is not None and not isinstance(patterns, dict):
        raise BundleError(f"adapter_config.json has alpha_pattern={brief(patterns)}; allowed: an object")
    for key, value in (patterns or {}).items():
        if name == key or name.endswith(f".{key}") or _fits(key, name):
            return _number(f"alpha_pattern.{key}", value)
    return usual


def _fits(pattern: str, name: str) -> bool:
    if len(pattern) > MAX_PATTERN or SLOW_PATTERN.search(pattern):
        raise BundleError(
            f"adapter_config.json has the pattern {brief(pattern)}, which is long or repeats a group; "
            "allowed: names of modules, and short expressions for them"
        )
    try:
        return re.match(rf"(.*\.)?({pattern})$", name) is not None
    except re.error as error:
        raise BundleError(f"adapter_config.json has the pattern {brief(pattern)}: {error}") from None


def _require_rank(module: Network, pair: Pair) -> None:
    linear = linear_at(module, pair.site.path)
    smaller = min(linear.in_features, sum(linear.parts[part] for part in pair.site.parts))
    if pair.rank > smaller:
        raise ConfigError(
            f"peft.rank={pair.rank} is larger than the matrix of {pair.site.names()[0]}, which has rank "
            f"{smaller} at most; choose 1 to {smaller}"
        )


def _require_shapes(module: Network, site: Site, first: Tensor, second: Tensor) -> None:
    linear = linear_at(module, site.path)
    rows, rank = sum(linear.parts[part] for part in site.parts), len(first)
    expected = ((rank, linear.in_features), (rows, rank))
    if (tuple(first.shape), tuple(second.shape)) != expected:
        raise BundleError(
            f"the adapter's matrices for {site.published} are {tuple(first.shape)} and "
            f"{tuple(second.shape)}, but this base needs {expected[0]} and {expected[1]}; load it with the "
            "base that it was trained on"
        )


@torch.no_grad()
def _put(
    module: Network,
    pairs: Sequence[Pair],
    *,
    dropout: float,
    generator: torch.Generator | None = None,
    values: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Freeze the network and wrap its modules; the matrices are new, or have `values` by published name."""
    freeze(module)
    of = {pair.site: pair for pair in pairs}
    for path, own in by_path(of).items():
        wrapper = LowRank(module.get_submodule(path), [of[site] for site in own], dropout=dropout)
        replace(module, path, wrapper)
        wrapper.base.requires_grad_(False)
        for number, site in enumerate(own if values is not None else ()):
            first, second = (values or {})[site.published]
            wrapper.first(number).copy_(first)
            wrapper.up[number].copy_(second)
        if values is None and generator is not None and not wrapper.down.is_meta:
            wrapper.initialize(generator)


def _wrappers(module: Network) -> dict[str, LowRank]:
    return {path: own for path, own in linear_modules(module) if isinstance(own, LowRank)}


def _target_modules(module: Network, chosen: Sequence[Site]) -> list[str]:
    """The names of modules as the `peft` library matches them: last parts where these suffice, else whole."""
    names = [site.published for site in chosen]
    ends = dict.fromkeys(name.rpartition(".")[2] for name in names)
    others = [site.published for site in sites(module) if site not in chosen]
    if any(other.rpartition(".")[2] in ends for other in others):
        return names
    return list(ends)


METHOD = Lora
