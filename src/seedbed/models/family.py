"""What a family's file says: its published config and weights in our terms, sizes, initialisation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import torch

from seedbed.base.errors import BundleError, ConfigError, nearest
from seedbed.models import initialization
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import (
    LABELLED,
    MAX_LABELS,
    PARALLEL,
    POST,
    PRE,
    Activation,
    HeadConfig,
    HeadKind,
    ModelConfig,
    RecurrentConfig,
    Shape,
)
from seedbed.text.special_form import DECODER, SpecialForm

Config = ModelConfig | RecurrentConfig
Network = Transformer | RecurrentNetwork


SIZES = ("vocab_size", "d_model", "num_layers", "num_heads", "d_ff")  # fields that config.json must have


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

    `keys` maps a field to its key, or to several keys that have one value with us (dropout): the largest is
    read, all are written. `activations` maps the published names of activations to ours; where two names
    mean the same, the first is written.
    """

    keys: Mapping[str, str | tuple[str, ...]]
    activations: Mapping[str, Activation] = field(default_factory=dict)

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields whose keys `config.json` has; the others keep the family's defaults.

        Errors: KeyError where a size is missing; ConfigError where one is not a number; BundleError where
        the activation is not in the table.
        """
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
        """The values of `config.json` for the fields in the table.

        Errors: ConfigError where the family has no name for the activation.
        """
        theirs = {ours: name for name, ours in reversed(list(self.activations.items()))}
        values: dict[str, Any] = {}
        for name, key in self.keys.items():
            value = getattr(config, name)
            if name == "activation":
                if value not in theirs:
                    raise ConfigError(
                        f"{config.family} has no activation={value!r}; {nearest(value, theirs)}"
                    )
                value = theirs[value]
            values |= dict.fromkeys((key,) if isinstance(key, str) else key, value)
        return values


def require_values(values: Mapping[str, Any], allowed: Mapping[str, Any], reason: str) -> None:
    """Refuse a `config.json` with other values of these keys than the allowed ones.

    An absent key is allowed, null equals false. Errors: BundleError.
    """
    found = {key: values.get(key, value) for key, value in allowed.items()}
    if refused := [key for key, value in allowed.items() if found[key] != value and (found[key] or value)]:
        has, may = (", ".join(f"{key}={table[key]!r}" for key in refused) for table in (found, allowed))
        raise BundleError(f"config.json has {has}, but {reason}; allowed: {may}")


def write_own_config(config: Config) -> dict[str, Any]:
    """The `config.json` of a family without a public class: our own fields, and a `model_type` of ours."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {"model_type": f"seedbed_{values.pop('family')}"} | values


def read_own_config(values: Mapping[str, Any]) -> Config:
    """The config that `write_own_config` wrote, today or until 2026-11, with flat fields."""
    kind: type[Config] = RecurrentConfig if "cell" in values else ModelConfig
    known = {f.name for f in fields(kind)}
    found = {key: value for key, value in _with_tables(values).items() if key in known}
    found["family"] = str(values["model_type"]).removeprefix("seedbed_")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in found]:
        raise BundleError(
            f"config.json of {values['model_type']} lacks {', '.join(missing)}; take the whole bundle again"
        )
    try:
        config: Config = _read_table(kind, found)
        return config
    except TypeError as error:
        raise BundleError(
            f"config.json of {values['model_type']} does not fit {kind.__name__}: {error}"
        ) from None


def _with_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with tables for attention and the norms' places, which were flat until 2026-11."""
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
    """A dataclass of what JSON has of it: dictionaries for dataclasses, lists for tuples."""
    hints = get_type_hints(kind)

    def read(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        hint = hints.get(name)
        tables = [one for one in (hint, *get_args(hint)) if is_dataclass(one) and isinstance(one, type)]
        return _read_table(tables[0], value) if tables and isinstance(value, dict) else value

    return kind(**{name: read(name, value) for name, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class GgufForm:
    """How GGUF files hold a family's weights.

    `architectures` are those that are read; `names` leads from a tensor's name there, without its suffix, to
    the published one, `{i}` being the layer; `interleaved`: the pairs that rotary positions turn lie side by
    side in the rows of q and k; `norms_from_one`: norms' weights lie there with the 1 that the published ones
    leave out.
    """

    architectures: tuple[str, ...]
    names: Mapping[str, str]
    interleaved: bool = False
    norms_from_one: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A line of published models.

    `model_types` are those of `config.json` that it reads, the first is the one that it writes;
    `architectures` the classes that other tools load it with, by the kind of its head, none where there is
    none; `labelled` makes the head of the kinds that have labels. `read_config` and `write_config` translate
    `config.json`; `sized` makes a config in the family's own proportions from a width and a depth; `special`
    are the control tokens and the kind of its tokenizers.

    Of published files: `ignored` are patterns of tensors that hold nothing learnt, `zero` names of those that
    hold zeros in every model that the core can be; `copies` names those that may lie there a second time,
    with what each is a copy of; `older` ends of names, by which older files name what ends otherwise today;
    `prefix` begins the names of all tensors but the output's, and lacks where a file was saved without it;
    `config_from_names` completes a config from the names of a file's tensors.

    `gguf` says how GGUF files hold it, None where they are not read. `objective` is what it was pre-trained
    with, `training` the settings of a training that it needs other than usual, with an optimizer of its own.
    """

    name: str
    model_types: tuple[str, ...]
    architectures: Mapping[HeadKind, str] = field(default_factory=dict)
    labelled: Callable[[HeadKind, tuple[str, ...]], HeadConfig] = lambda kind, labels: HeadConfig(
        kind=kind, labels=labels
    )
    presets: Mapping[str, Config]
    read_config: Callable[[Mapping[str, Any]], Config] = read_own_config
    write_config: Callable[[Any], dict[str, Any]] = write_own_config
    sized: Callable[[int, int], Config]
    rules: Callable[[Any], Sequence[Rule]]
    initialize: Callable[[Any, torch.Generator], None] = initialization.normal
    special: SpecialForm = DECODER
    ignored: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    copies: Callable[[Any], Mapping[str, str]] = lambda config: {}
    older: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    config_from_names: Callable[[Any, Collection[str]], Any] = lambda config, names: config
    gguf: GgufForm | None = None
    objective: str = "causal"
    training: Mapping[str, Any] = field(default_factory=dict)

    def architecture(self, config: Config) -> str | None:
        """The class that other tools load such a network with."""
        return self.architectures.get(config.head.kind)

    def with_head(self, config: Config, values: Mapping[str, Any]) -> Config:
        """The config with the head of the class that `config.json` names, if it is one of ours with labels.

        Errors: ConfigError where its labels are damaged.
        """
        named = values.get("architectures") or ()
        kinds = [kind for kind, name in self.architectures.items() if name in named and kind in LABELLED]
        if not kinds or isinstance(config, RecurrentConfig):
            return config
        problem, labels = values.get("problem_type"), read_labels(values)
        if problem == "regression" and len(labels) > 1:
            raise ConfigError(
                f"problem_type 'regression' with {len(labels)} labels is not supported, their logits are no "
                "classes; allowed: regression with one label, or another problem_type"
            )
        several = problem == "multi_label_classification"
        head = replace(self.labelled(kinds[0], labels), several_labels=several)
        return replace(config, head=head)

    def head_values(self, config: Config) -> dict[str, Any]:
        """What `config.json` says of the head: the class that loads it, and its labels."""
        values: dict[str, Any] = {}
        if (architecture := self.architecture(config)) is not None:
            values["architectures"] = [architecture]
        if labels := config.head.labels:
            values["id2label"] = {str(i): label for i, label in enumerate(labels)}
            values["label2id"] = {label: i for i, label in enumerate(labels)}
            if config.head.several_labels:
                values["problem_type"] = "multi_label_classification"
        return values

    def preset(self, size: str) -> Config:
        """The config of a published size."""
        if size not in self.presets:
            raise ConfigError(f"{self.name} has no preset {size!r}; {nearest(size, self.presets)}")
        return self.presets[size]


def read_labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of `config.json` in the order of their logits; LABEL_0 and so on where it names none."""
    named, count = values.get("id2label"), values.get("num_labels") or values.get("_num_labels") or 2
    if named is None and type(count) is int and 0 < count <= MAX_LABELS:
        return tuple(f"LABEL_{i}" for i in range(count))
    labels = {str(i): str(name) for i, name in named.items()} if isinstance(named, dict) else {}
    order = [str(i) for i in range(min(len(labels), MAX_LABELS))]
    if not labels or set(labels) != set(order):
        raise ConfigError("id2label names no labels 0, 1, 2 ...; write one name for each logit of the head")
    commonest, times = Counter(labels.values()).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"id2label names {commonest[:40]!r} {times} times; give each logit of the head its own name"
        )
    return tuple(labels[i] for i in order)


def tied_output(embedding: str) -> Callable[[ModelConfig], dict[str, str]]:
    """The `copies` of a family whose output, `lm_head`, may be its embedding."""
    return lambda config: {"lm_head.weight": embedding} if config.tie_embeddings else {}


def decoder_head(config: ModelConfig, *, tags: str = "score") -> list[Rule]:
    """The names that decoders' published classes give what follows the last layer."""
    head = config.head.kind
    if head in LABELLED:
        return [Rule("classifier", tags if head == "tagging" else "score")]
    return [] if config.tie_embeddings else [Rule("unembed", "lm_head")]
