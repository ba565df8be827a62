"""The files of an adapter, as the `peft` library has them, and how they are put on a base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from seedbed.base.arguments import brief
from seedbed.base.errors import BundleError, ConfigError, SeedbedWarning, UsageError, nearest
from seedbed.base.json_file import has_file, json_problem, read_object
from seedbed.hub.published import num_not_finite
from seedbed.hub.tensor_files import SafetensorsFile, TensorHeader
from seedbed.hub.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG
from seedbed.models.adapter import HEAD, METHODS, AdapterFile, Method, freeze, head_modules
from seedbed.models.family import Config, Network
from seedbed.models.network import depth, family, is_alike, with_empty_head
from seedbed.models.weights import expand, export_weights, import_weights
from seedbed.nn.config import MAX_LABELS, HeadConfig, HeadKind, ModelConfig
from seedbed.nn.linear import named_parts

ADAPTER_PICKLE = "adapter_model.bin"
OWN = "seedbed"  # the key of what only we know, in the metadata of the weights
COMMON = "base_model.model."  # before the name of every module
TASKS: Mapping[str, HeadKind] = {"SEQ_CLS": "classification", "TOKEN_CLS": "tagging"}


class OwnFacts(BaseModel):
    """What the `peft` library does not store: the base's fingerprint and shape, and the labels of a head."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    base: str | None = None
    shape: str = ""
    kind: Literal["classification", "tagging"] | None = None
    labels: list[str] = []
    several_labels: bool = False


@dataclass(frozen=True, kw_only=True)
class AdapterFolder:
    """An adapter whose config and header have been read.

    `names` are those of its tensors in the file, by the name without what is before every module.
    """

    path: Path
    values: Mapping[str, Any]
    method: str
    own: OwnFacts
    headers: Mapping[str, TensorHeader]
    names: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> AdapterFolder:
        """Read a folder. Errors: BundleError for a missing, damaged or unknown file."""
        values, file = read_object(path / ADAPTER_CONFIG), path / ADAPTER_WEIGHTS
        method = _method_of(values.get("peft_type"), path)
        if not has_file(file):
            pickle = has_file(path / ADAPTER_PICKLE)
            advice = f"{ADAPTER_PICKLE} is a pickle and is not read: save it as safetensors" if pickle else ""
            raise BundleError(f"{path} has no {ADAPTER_WEIGHTS}; {advice or 'download or train it again'}")
        opened = SafetensorsFile(file)
        names = {name.removeprefix(COMMON): name for name in opened.headers}
        for name, header in opened.headers.items():
            if header.dtype is None or not header.dtype.is_floating_point:
                raise BundleError(f"{file} has {name} in a type that is not a float; take another adapter")
        own = _own_facts(opened.metadata.get(OWN), file)
        return cls(path=path, values=values, method=method, own=own, headers=opened.headers, names=names)

    @property
    def base(self) -> str:
        """The name of its base, with a revision on the hub. Errors: BundleError where it has none."""
        name, revision = (self.values.get(key) for key in ("base_model_name_or_path", "revision"))
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise BundleError(
                f"{self.path / ADAPTER_CONFIG} names no base (base_model_name_or_path={brief(name)}); load "
                f'the base with it: seedbed.load(BASE, adapter="{self.path}")'
            )
        if revision is not None and (not isinstance(revision, str) or not revision.isprintable()):
            raise BundleError(f"{self.path / ADAPTER_CONFIG} has revision={brief(revision)}; allowed: a text")
        return f"{name}@{revision}" if revision else name

    def config(self, base: Config) -> Config:
        """The config of the base with the adapter's head, if it has one with labels."""
        head = self._head(base)
        if head is None or is_alike(base.head, head):
            return base
        assert isinstance(base, ModelConfig)
        return replace(base, head=head)

    def put_on(self, module: Network) -> tuple[Network, Any]:
        """Put the adapter on the network of its base, whose modules are used -> the network, the settings."""
        with _errors(self.path):
            config = self.config(module.config)
            adapted = with_empty_head(module, config.head)
            kept = {name for name in head_modules(adapted) if getattr(adapted, name) is getattr(module, name)}
            freeze(adapted)
            tensors = self._tensors(adapted.config)
            self._fill_head(adapted, tensors, kept)
            file = AdapterFile(config=self.values, tensors=tensors)
            return adapted.eval(), METHODS.get(self.method).load(adapted, file)

    def _head(self, base: Config) -> HeadConfig | None:
        """The head with labels that it was trained with."""
        own, kind = self.own, TASKS.get(str(self.values.get("task_type")))
        labels = tuple(own.labels)
        if own.kind is not None:
            kind = own.kind
        if kind is None or not isinstance(base, ModelConfig):
            return None
        chosen = family(base.family)
        if kind not in chosen.architectures:
            raise BundleError(
                f"{self.path} has a head for {kind}, and {base.family} has no published class with one; load "
                "it with the base that it was trained on"
            )
        if own.kind is None:
            return self._unnamed_head(base, kind)
        try:
            return replace(chosen.labelled(kind, labels), several_labels=own.several_labels)
        except ConfigError as error:
            raise BundleError(f"{self.path / ADAPTER_WEIGHTS}: {error}") from None

    def _unnamed_head(self, base: ModelConfig, kind: HeadKind) -> HeadConfig | None:
        """A head without labels in the files: the base's if it is of this size, else LABEL_0, LABEL_1 ..."""
        chosen = family(base.family)
        headed = replace(base, head=chosen.labelled(kind, ("0",)))
        last = next(name for name, ours in head_names(headed).items() if ours == "classifier.weight")
        stored = self.names.get(last)
        count = self.headers[stored].shape[:1] if stored is not None else ()
        if stored is None or (base.head.kind == kind and (len(base.head.labels),) == count):
            return base.head if base.head.kind == kind else None
        if not count or not 0 < count[0] <= MAX_LABELS:
            raise BundleError(f"{self.path} has {last} for {count} labels; allowed: 1 to {MAX_LABELS:,}")
        return chosen.labelled(kind, tuple(f"LABEL_{i}" for i in range(count[0])))

    def _tensors(self, config: Config) -> dict[str, Tensor]:
        """Its tensors by their names; those that were saved without the family's prefix get it."""
        file, prefix = SafetensorsFile(self.path / ADAPTER_WEIGHTS), family(config.family).prefix
        published = expand(family(config.family).rules(config), depth(config))
        known = {theirs.removesuffix(".weight") for _, theirs, _ in published}
        tensors, num_bad = {}, 0
        for name, stored in self.names.items():
            bare = prefix and _is_bare(name, prefix, known)
            tensor = file.read(stored)
            num_bad += num_not_finite(tensor)
            tensors[prefix + name if bare else name] = tensor
        if num_bad:
            warnings.warn(
                f"{file.path} has {num_bad:,} numbers that are not finite; the model's output is worthless: "
                "write or download the file again",
                SeedbedWarning,
                stacklevel=4,
            )
        return tensors

    @torch.no_grad()
    def _fill_head(self, module: Network, tensors: dict[str, Tensor], kept: set[str]) -> None:
        """Move the tensors of the head from `tensors` into the network; `kept` are modules of the base."""
        ours = dict(named_parts(nn.ModuleDict(head_modules(module))))
        names = {theirs: name for theirs, name in head_names(module.config).items() if name in ours}
        found = {theirs: tensors.pop(theirs) for theirs in names if theirs in tensors}
        lacking = [
            theirs
            for theirs, name in names.items()
            if theirs not in found and name.partition(".")[0] not in kept
        ]
        if lacking:
            raise BundleError(
                f"it lacks {lacking[0]} of its head, which its base does not have either; train it again "
                "with all modules of the head"
            )
        part = {names[theirs]: ours[names[theirs]] for theirs in found}
        rules = family(module.config.family).rules(module.config)
        import_weights(found, part, rules, num_layers=1, num_heads=1)


def is_adapter(path: Path) -> bool:
    """Whether a path is the folder of an adapter, and not that of a whole model."""
    return path.is_dir() and has_file(path / ADAPTER_CONFIG) and not (path / CONFIG).exists()


def head_names(config: Config) -> dict[str, str]:
    """Our name of each tensor that a head with labels can have, by its published one."""
    rules = family(config.family).rules(config)
    return {
        theirs: ours[0]
        for ours, theirs, _ in expand(rules, 1)
        if len(ours) == 1 and ours[0].partition(".")[0] in HEAD and ours[0].endswith((".weight", ".bias"))
    }


def export_head(module: Network) -> dict[str, Tensor]:
    """The tensors of the head of a network with labels, by their published names."""
    ours = dict(named_parts(nn.ModuleDict(head_modules(module))))
    rules = family(module.config.family).rules(module.config)
    return export_weights(ours, rules, num_layers=1, num_heads=1)


def shape_of(config: Config) -> str:
    """The shape of a network in a few words."""
    return f"{config.family}, {config.num_layers} layers x {config.d_model}, {config.vocab_size} tokens"


def peft_type_of(name: str, method: type[Method]) -> str:
    """The `peft_type` of a method: the library's name, or its own in capitals."""
    return method.peft_type or name.upper()


def _is_bare(name: str, prefix: str, known: Collection[str]) -> bool:
    """Whether a tensor's module is published with the prefix, which the name lacks."""
    while name := name.rpartition(".")[0]:
        if name in known:
            return False
        if prefix + name in known:
            return True
    return False


def is_supported(values: Mapping[str, Any]) -> bool:
    """Whether the method of an adapter_config.json is one of ours."""
    return values.get("peft_type") in _methods()


def _methods() -> dict[Any, str]:
    return {peft_type_of(name, METHODS.get(name)): name for name in METHODS.names()}


def _method_of(peft_type: Any, path: Path) -> str:
    known = _methods()
    if not isinstance(peft_type, str) or peft_type not in known:
        raise BundleError(
            f"{path / ADAPTER_CONFIG} has the peft_type {brief(peft_type)}, which is not supported; "
            f"{nearest(str(peft_type), known)}"
        )
    return known[peft_type]


def _own_facts(text: str | None, file: Path) -> OwnFacts:
    if text is None:
        return OwnFacts()
    try:
        return OwnFacts.model_validate(json.loads(text))
    except (ValueError, RecursionError) as error:
        where = error.errors()[0]["loc"] if isinstance(error, ValidationError) else ()
        problem = ".".join(map(str, where)) + " has a wrong type" if where else json_problem(error)
        raise BundleError(
            f"{file} has metadata of seedbed that cannot be read ({problem[:80]}); write or download it again"
        ) from None


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Add the adapter's path to an error; whatever a wrong file causes is a BundleError."""
    try:
        yield
    except (BundleError, UsageError) as error:
        said = str(error)
        raise BundleError(said if said.startswith(str(path)) else f"{path}: {said}") from None
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BundleError(f"{path / ADAPTER_CONFIG} does not describe an adapter: {error}") from None
