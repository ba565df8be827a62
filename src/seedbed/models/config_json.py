"""The `config.json` of a family: a table of a published class's keys, or our own fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.nn.config import PARALLEL, POST, PRE, Activation, ModelConfig, RecurrentConfig, Shape

SIZES = ("vocab_size", "d_model", "num_layers", "num_heads", "d_ff")  # fields that config.json must have
OWN_PREFIX = "seedbed_"  # of the `model_type` of a family without a public class


def make_config(
    family: str, shape: Shape, d_model: int, num_layers: int, *more: int, **fields: Any
) -> ModelConfig:
    """A config with heads of 64 and a feed-forward of 4 d_model; `more` are another num_heads and d_ff."""
    sizes = dict(zip(("num_heads", "d_ff"), more, strict=False))
    values = {"num_heads": max(1, d_model // 64), "d_ff": 4 * d_model} | fields | sizes
    return ModelConfig(family=family, shape=shape, d_model=d_model, num_layers=num_layers, **values)


@dataclass(frozen=True)
class ConfigKeys:
    """How a published `config.json` names the fields of `ModelConfig`: one table for reading and writing.

    `keys` maps a field to its key, or to several keys (dropout): the largest value is read, all are written.
    `activations` maps the published names of activations to ours; of two names for one, the first is written.
    """

    keys: Mapping[str, str | tuple[str, ...]]
    activations: Mapping[str, Activation] = field(default_factory=dict)

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields whose keys `config.json` has. Errors: KeyError, ConfigError, BundleError."""
        fields: dict[str, Any] = {}
        for name, key in self.keys.items():
            keys = (key,) if isinstance(key, str) else key
            if found := [values[k] for k in keys if name in SIZES or k in values]:
                fields[name] = max(found)
            if name in SIZES and type(fields[name]) is not int:
                raise ConfigError(f"{name}={fields[name]!r} is not allowed; allowed: a whole number")
        if "activation" in fields:
            if (activation := fields["activation"]) not in self.activations:
                raise BundleError(
                    f"config.json has {self.keys['activation']}={activation!r}, which this family does not "
                    f"support; allowed: {', '.join(self.activations)}"
                )
            fields["activation"] = self.activations[activation]
        return fields

    def write(self, config: ModelConfig) -> dict[str, Any]:
        """The values of `config.json`; ConfigError where the family has no name for the activation."""
        theirs = {ours: name for name, ours in reversed(list(self.activations.items()))}
        if (ours := config.activation) not in theirs and "activation" in self.keys:
            raise ConfigError(f"{config.family} has no activation={ours!r}; {nearest(ours, theirs)}")
        values: dict[str, Any] = {}
        for name, key in self.keys.items():
            value = theirs[ours] if name == "activation" else getattr(config, name)
            values |= dict.fromkeys((key,) if isinstance(key, str) else key, value)
        return values


def require_values(values: Mapping[str, Any], allowed: Mapping[str, Any], reason: str) -> None:
    """Refuse other values of these keys of `config.json`; an absent key is allowed, null equals false."""
    found = {key: values.get(key, value) for key, value in allowed.items()}
    if refused := [key for key, value in allowed.items() if found[key] != value and (found[key] or value)]:
        has, may = (", ".join(f"{key}={table[key]!r}" for key in refused) for table in (found, allowed))
        raise BundleError(f"config.json has {has}, but {reason}; allowed: {may}")


def write_own_config(config: ModelConfig | RecurrentConfig) -> dict[str, Any]:
    """The `config.json` of a family without a public class: our `model_type` and fields."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {"model_type": OWN_PREFIX + values.pop("family")} | values


def read_own_config(values: Mapping[str, Any]) -> ModelConfig | RecurrentConfig:
    """The config from `write_own_config`, or from bundles of before 2026-11 with their flat fields."""
    kind: type[ModelConfig | RecurrentConfig] = RecurrentConfig if "cell" in values else ModelConfig
    known = {f.name for f in fields(kind)}
    found = {key: value for key, value in _nest_flat_fields(values).items() if key in known}
    found["family"] = str(values["model_type"]).removeprefix(OWN_PREFIX)
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in found]:
        raise BundleError(
            f"config.json of {values['model_type']} lacks {', '.join(missing)}; take the whole bundle again"
        )
    try:
        return _read_table(kind, found)  # type: ignore[no-any-return]
    except TypeError as error:
        raise BundleError(
            f"config.json of {values['model_type']} does not describe a {kind.__name__}: {error}"
        ) from None


def _nest_flat_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with tables for `attention` and `residual`, which were flat until 2026-11."""
    values = dict(values)
    flat = ("num_kv_heads", "head_dim", "qk_norm", "attention_scale")
    own = {name.removeprefix("attention_"): values.pop(name) for name in flat if name in values}
    if isinstance(values.get("position"), dict) and "window" in values["position"]:
        own["window"] = values["position"]["window"]
        values["position"] = {name: one for name, one in values["position"].items() if name != "window"}
    if own:
        values["attention"] = own
    residuals = {"pre": PRE, "post": POST, "parallel": PARALLEL}
    if isinstance(residual := values.get("residual"), str):
        values["residual"] = residuals.get(residual, residual)
    return values


def _read_table(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass from its JSON: dictionaries for dataclasses, lists for tuples."""
    hints = get_type_hints(kind)

    def read(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        hint = hints.get(name)
        tables = [one for one in (hint, *get_args(hint)) if is_dataclass(one) and isinstance(one, type)]
        return _read_table(tables[0], value) if tables and isinstance(value, dict) else value

    return kind(**{name: read(name, value) for name, value in values.items()})
