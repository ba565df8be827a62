"""What a family's file says: its published config and weights in our terms, sizes, initialisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from seedbed.base.errors import ConfigError, nearest
from seedbed.models import initialization
from seedbed.models.config_json import read_own_config, write_own_config
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import (
    LABELLED,
    MAX_LABELS,
    HeadConfig,
    HeadKind,
    ModelConfig,
    RecurrentConfig,
)
from seedbed.text.special_form import DECODER, SpecialForm

Config = ModelConfig | RecurrentConfig
Network = Transformer | RecurrentNetwork


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
