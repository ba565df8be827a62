"""`Family`, the interface of the plug-ins in `models/families`, and functions that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from seedbed.base.errors import ConfigError
from seedbed.models import initialization
from seedbed.models.config_json import OWN_PREFIX, read_own_config, write_own_config
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.transformer import Transformer
from seedbed.models.weights import Rule
from seedbed.nn.config import LABELLED, MAX_LABELS, HeadConfig, HeadKind, ModelConfig, RecurrentConfig
from seedbed.text.special_form import DECODER, SpecialForm

Config = ModelConfig | RecurrentConfig
Network = Transformer | RecurrentNetwork
CLASS_ENDINGS: dict[HeadKind, str] = {
    "lm": "ForCausalLM",
    "mlm": "ForMaskedLM",
    "none": "Model",
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
}


@dataclass(frozen=True, kw_only=True)
class GgufForm:
    """How GGUF files store a family's weights; their `general.architecture` is its name."""

    names: Mapping[str, str]  # a tensor's name there, without its suffix -> the published one; {i}: the layer
    interleaved: bool = False  # rows of q and k are permuted for rotary positions that rotate neighbours
    norms_from_one: bool = False  # norms' weights include the 1 that the published ones leave out


@dataclass(frozen=True, kw_only=True)
class Family:
    """A line of published models: how its config, weights and tokenizers map to ours.

    Each file in `models/families` defines one as `FAMILY` (CONTRIBUTING.md, "Add a family").
    """

    name: str  # the file's name, and the first part of a preset (`gpt2:124m`)
    presets: Mapping[str, Config]  # the published sizes
    sized: Callable[[int, int], Config]  # the family's proportions for any (d_model, num_layers)
    rules: Callable[[Any], Sequence[Rule]]  # the published names of all parameters of a config

    # For families with public classes; without one, `config.json` has our own fields.
    architectures: Mapping[HeadKind, str] = field(default_factory=dict)  # the class for each kind of head
    published_as: str = ""  # the `model_type`, where it is not the name
    read_config: Callable[[Mapping[str, Any]], Config] = read_own_config
    write_config: Callable[[Any], dict[str, Any]] = write_own_config
    initialize: Callable[[Any, torch.Generator], None] = initialization.normal  # with the initial weights
    # The head for a kind with labels, where it has more than a classifier.
    labelled: Callable[[HeadKind, tuple[str, ...]], HeadConfig] = lambda kind, labels: HeadConfig(
        kind=kind, labels=labels
    )
    special: SpecialForm = DECODER  # the special tokens and the kind of the tokenizers
    objective: str = "causal"  # of its pre-training
    training: Mapping[str, Any] = field(default_factory=dict)  # settings of it that differ from the defaults

    # For details of published files.
    prefix: str = ""  # of every tensor's name but the output's; files saved without the output lack it
    ignored: tuple[str, ...] = ()  # patterns of names of tensors without learned values, such as masks
    zero: tuple[str, ...] = ()  # names of tensors that must be zero
    copies: Callable[[Any], Mapping[str, str]] = lambda config: {}  # a tensor stored again -> its original
    legacy_names: Mapping[str, str] = field(default_factory=dict)  # ends of names in legacy files -> now
    # Completes a config from the names of a file's tensors.
    config_from_names: Callable[[Any, Collection[str]], Any] = lambda config, names: config
    gguf: GgufForm | None = None  # None: GGUF files are not read

    @property
    def model_type(self) -> str:
        """The `model_type` of its `config.json`."""
        return self.published_as or (self.name if self.architectures else OWN_PREFIX + self.name)

    def architecture(self, config: Config) -> str | None:
        """The public class of a network with this config, None if it has none."""
        return self.architectures.get(config.head.kind)

    def with_head(self, config: Config, values: Mapping[str, Any]) -> Config:
        """The config with the head of the class in `config.json`, if that is one of ours with labels."""
        named = values.get("architectures") or ()
        kinds = [kind for kind, name in self.architectures.items() if name in named and kind in LABELLED]
        if not kinds or isinstance(config, RecurrentConfig):
            return config
        problem, labels = values.get("problem_type"), read_labels(values)
        if problem == "regression" and len(labels) > 1:
            raise ConfigError(
                f"problem_type 'regression' with {len(labels)} labels is not supported, their logits are not "
                "classes; allowed: regression with one label, or another problem_type"
            )
        head = self.labelled(kinds[0], labels)
        return replace(config, head=replace(head, several_labels=problem == "multi_label_classification"))

    def head_values(self, config: Config) -> dict[str, Any]:
        """The values of `config.json` for the head: its public class and its labels."""
        architecture = self.architecture(config)
        values: dict[str, Any] = {} if architecture is None else {"architectures": [architecture]}
        if labels := config.head.labels:
            values["id2label"] = {str(i): label for i, label in enumerate(labels)}
            values["label2id"] = {label: i for i, label in enumerate(labels)}
            if config.head.several_labels:
                values["problem_type"] = "multi_label_classification"
        return values


def read_labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of `config.json` in the order of their logits; LABEL_0, LABEL_1 ... if it has none."""
    named, count = values.get("id2label"), values.get("num_labels") or values.get("_num_labels") or 2
    if named is None and type(count) is int and 0 < count <= MAX_LABELS:
        return tuple(f"LABEL_{i}" for i in range(count))
    labels = {str(i): str(name) for i, name in named.items()} if isinstance(named, dict) else {}
    order = [str(i) for i in range(min(len(labels), MAX_LABELS))]
    if not labels or set(labels) != set(order):
        raise ConfigError("id2label has no labels 0, 1, 2 ...; write one name for each logit of the head")
    commonest, times = Counter(labels.values()).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"id2label has {commonest[:40]!r} {times} times; give each logit of the head its own name"
        )
    return tuple(labels[i] for i in order)


def tied_output(embedding: str) -> Callable[[ModelConfig], dict[str, str]]:
    """The `copies` of a family whose output `lm_head` may be tied to its embedding."""
    return lambda config: {"lm_head.weight": embedding} if config.tie_embeddings else {}


def public_classes(name: str, kinds: Sequence[HeadKind] = ("lm", *LABELLED)) -> dict[HeadKind, str]:
    """The public classes with the usual endings, by the kind of their head."""
    return {kind: name + CLASS_ENDINGS[kind] for kind in kinds}


def decoder_head_rules(config: ModelConfig, *, tags: str = "score") -> list[Rule]:
    """The rules for a decoder's output `lm_head`, or for its classifier: `score`, of tokens `tags`."""
    head = config.head.kind
    if head in LABELLED:
        return [Rule("classifier", tags if head == "tagging" else "score")]
    return [] if config.tie_embeddings else [Rule("unembed", "lm_head")]
