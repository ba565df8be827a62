"""An adapter as a folder: written aside, loaded again onto the same base, compared, and renamed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.base.errors import BundleError, SeedbedError
from seedbed.base.files import disk_errors, replaced_folder
from seedbed.hub.adapter_file import (
    COMMON,
    OWN,
    AdapterFolder,
    OwnFacts,
    export_head,
    head_names,
    peft_type_of,
    shape_of,
)
from seedbed.hub.base import Base
from seedbed.hub.bundle import (
    CARD,
    GENERATION,
    PARTIAL,
    REPLACED,
    compare_logits,
    is_equal,
    require_replaceable,
)
from seedbed.hub.tensor_files import SafetensorsFile, save_tensors
from seedbed.hub.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from seedbed.models.adapter import METHODS, Method, head_modules
from seedbed.models.family import Config, Network
from seedbed.models.network import family
from seedbed.nn.config import LABELLED
from seedbed.nn.linear import named_parts
from seedbed.text.tokenizer import TEMPLATE_FILE, Tokenizer

FILES = {ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD, GENERATION}
FILES |= {"tokenizer.json", "tokenizer_config.json", TEMPLATE_FILE}
# The same numbers go through the same modules.
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """The adapter of a network: the settings of its method, and the model that it is put on."""

    settings: Any
    parent: Base

    @property
    def base(self) -> str:
        """The name of its base, which opens it again."""
        return self.parent.name

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its base."""
        return self.parent.fingerprint


def save_adapter(
    path: Path | str,
    module: Network,
    settings: Any,
    *,
    base: Base,
    tokenizer: Tokenizer | None = None,
    generation: Mapping[str, Any] | None = None,
    card: str = "",
    force: bool = False,
) -> Path:
    """Write what a method with these settings added to the network of `base`; load it again and compare.

    The tokenizer and the generation settings are stored where they differ from the base's. An earlier
    adapter with the same numbers is replaced, with `force` any. Errors: HardwareError if the disk is full;
    BundleError if the loaded adapter differs, if `path` contains something else, or for an adapter of an
    adapter.
    """
    if base.adapter is not None:
        raise BundleError(
            f"{base.name} is an adapter, and an adapter of an adapter is not supported; merge it first, with "
            "lm.merge() and lm.save(FOLDER), and give the merged model"
        )
    path = Path(path).resolve()
    require_replaceable(path, FILES, "an adapter")
    values, tensors = _content(module, method_of(settings), base)
    if not force and path.exists() and any(path.iterdir()) and not _has(path, tensors):
        raise BundleError(
            f"{path} contains another adapter; choose a new folder, or replace it with --force (force=True "
            "in Python)"
        )
    with disk_errors(path), replaced_folder(path, partial=PARTIAL, earlier=REPLACED) as aside:
        own = json.dumps(_own_facts(module.config, base).model_dump(), ensure_ascii=False)
        save_tensors(tensors, aside / ADAPTER_WEIGHTS, metadata={OWN: own})
        (aside / ADAPTER_CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
        if tokenizer is not None and not _is_same(tokenizer, base.tokenizer):
            tokenizer.save(aside)
        if generation is not None and dict(generation) != base.generation:
            (aside / GENERATION).write_text(json.dumps(dict(generation), indent=2) + "\n")
        text = card or f"# An adapter of {base.name}\n\nSaved by seedbed.\n"
        (aside / CARD).write_text(text, encoding="utf-8")
        _compare(aside, module, settings)
    return path


def merge_adapter(module: Network, settings: Any) -> None:
    """Put what a method with these settings learned into the weights: the network is plain again."""
    method_of(settings).merge(module)
    for own in head_modules(module).values():
        own.to(module.dtype)
    module.requires_grad_(True)


def method_of(settings: Any) -> Method:
    """The method of a `[peft]` table."""
    return METHODS.get(settings.method)(settings)


def _content(module: Network, method: Method, base: Base) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of adapter_config.json, and the tensors by their names in the file."""
    file, config = method.export(module), module.config
    head = {
        name: tensor
        for name, tensor in export_head(module).items()
        if not any(own.startswith(name.rpartition(".")[0] + ".") for own in file.tensors)
    }
    # The class of an encoder without a head is the body alone: its modules lack the prefix.
    prefix = family(config.family).prefix if config.head.kind == "none" else ""
    tensors = {}
    for name, tensor in {**file.tensors, **head}.items():
        name = name.removeprefix(prefix)
        stored = tensor.float().contiguous()
        tensors[COMMON + name if "." in name else name] = stored.clone() if stored is tensor else stored
    repo, _, revision = base.name.partition("@") if base.commit is not None else (base.name, "", "")
    if (place := Path(repo).expanduser()).exists():
        repo = str(place.resolve())  # the adapter opens from any folder
    values = {
        "peft_type": peft_type_of(method.settings_class.method, type(method)),
        "task_type": _task_type(config),
        "base_model_name_or_path": repo,
        "revision": revision or None,
        "inference_mode": True,
        "modules_to_save": _whole_modules(head, config) or None,
    }
    return values | {key: _bare(value, prefix) for key, value in file.config.items()}, tensors


def _bare(value: Any, prefix: str) -> Any:
    """The names in a value without the prefix."""
    if not prefix:
        return value
    if isinstance(value, dict):
        return {key.removeprefix(prefix): one for key, one in value.items()}
    return (
        [_bare(one, prefix) for one in value]
        if isinstance(value, list)
        else (value.removeprefix(prefix) if isinstance(value, str) else value)
    )


def _whole_modules(head: Mapping[str, Tensor], config: Config) -> list[str]:
    """The modules that the tensors of a head belong to; a module of modules as a whole, as `peft` adds it."""
    prefix = family(config.family).prefix
    names = [name.rpartition(".")[0] for name in head]
    inner = {name for name in names if prefix and name.startswith(prefix)}
    return [*dict.fromkeys(name if name in inner else name.partition(".")[0] for name in names)]


def _task_type(config: Config) -> str:
    kind = config.head.kind
    if kind in LABELLED:
        return "SEQ_CLS" if kind == "classification" else "TOKEN_CLS"
    if kind == "lm":
        return "SEQ_2_SEQ_LM" if config.shape == "encoder-decoder" else "CAUSAL_LM"
    return "FEATURE_EXTRACTION"


def _own_facts(config: Config, base: Base) -> OwnFacts:
    facts = OwnFacts(base=base.fingerprint, shape=shape_of(base.config))
    head = config.head
    if not head.labels:
        return facts
    labelled = {"kind": head.kind, "labels": list(head.labels), "several_labels": head.several_labels}
    return facts.model_copy(update=labelled)


def _is_same(one: Tokenizer, other: Tokenizer | None) -> bool:
    return other is not None and one.fingerprint == other.fingerprint and one.config == other.config


def _has(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether an earlier adapter has exactly these numbers."""
    try:
        file = SafetensorsFile(path / ADAPTER_WEIGHTS)
        return file.headers.keys() == tensors.keys() and all(
            is_equal(tensor, file.read(name)) for name, tensor in tensors.items()
        )
    except SeedbedError:  # damaged, or something else
        return False


def _compare(folder: Path, module: Network, settings: Any) -> None:
    """Load the written adapter onto the modules of the same base, and compare the logits."""
    trained = [parameter.requires_grad for parameter in module.parameters()]
    shared = chain(module.parameters(), module.buffers())
    again = copy.deepcopy(module, {id(tensor): tensor for tensor in shared})
    method_of(settings).remove(again)
    for name, own in head_modules(again).items():
        setattr(again, name, copy.deepcopy(own))
    parts, written = dict(named_parts(nn.ModuleDict(head_modules(again)))), AdapterFolder.read(folder)
    for theirs, name in head_names(again.config).items():
        if theirs in written.names:
            parts[name].fill_(torch.nan)
    try:
        loaded, _ = written.put_on(again)
        compare_logits(module, loaded, TOLERANCE, f"adapter written to {folder}")
    except SeedbedError as error:
        raise BundleError(f"the adapter written to {folder} does not load again: {error}") from error
    finally:  # loading freezes the modules that both have
        for parameter, was in zip(module.parameters(), trained, strict=True):
            parameter.requires_grad_(was)
