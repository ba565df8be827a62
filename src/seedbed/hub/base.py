"""A base model, found and read once; or an adapter, with the base that it is put on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError, UsageError
from seedbed.base.json_file import has_file, read_object
from seedbed.hub.adapter_file import AdapterFolder, is_adapter, shape_of
from seedbed.hub.bundle import GENERATION, NAMED_TOKENS, read_bundle, read_network
from seedbed.hub.generation_file import valid_settings
from seedbed.hub.gguf import is_gguf
from seedbed.hub.locate import PREFIX, hub_name, locate
from seedbed.hub.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, open_weights
from seedbed.models.family import Config, Network
from seedbed.models.network import require_vocabulary
from seedbed.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A model whose files have been read, except the weights; `network` reads those.

    An adapter is a model with a `parent`, the model that it is put on, which is read once.
    """

    name: str  # opens it again: the path as the user wrote it, `package:NAME`, or `org/name@commit`
    path: Path
    commit: str | None
    config: Config
    tokenizer: Tokenizer | None
    generation: dict[str, Any]
    adapter: AdapterFolder | None = None
    parent: Base | None = None
    allow_pickle: bool = False

    @classmethod
    def open(
        cls, model: str | Path, *, adapter: str | Path | None = None, allow_pickle: bool = False
    ) -> Base:
        """Find a model, as `locate` does, and read its small files; on the hub, at the present commit.

        `adapter` is the folder of an adapter to put on it, whatever base that one names.
        """
        name, commit = str(model), None
        path = locate(model, weights=False, allow_pickle=allow_pickle)
        if is_adapter(path):
            if adapter is not None:
                raise UsageError(f"{model} is an adapter itself; give the model to put {adapter} on")
            folder = AdapterFolder.read(path)
            parent = cls.open(base_name(folder), allow_pickle=allow_pickle)
            return _adapted(parent, folder, name)
        if match := hub_name(model):
            commit = path.name
            name = f"{match['repo']}@{commit}"
        config, tokenizer, generation = read_bundle(path)
        opened = cls(
            name=name,
            path=path,
            commit=commit,
            config=config,
            tokenizer=tokenizer,
            generation=generation,
            allow_pickle=allow_pickle,
        )
        if adapter is None:
            return opened
        place = locate(adapter, weights=False)
        if not is_adapter(place):
            raise BundleError(f"{adapter} is not an adapter: it has no {ADAPTER_CONFIG}; give its folder")
        return _adapted(opened, AdapterFolder.read(place), str(adapter))

    @property
    def named_tokens(self) -> dict[str, int]:
        """The special tokens in generation_config.json, without lists of several; none of a GGUF file's."""
        if is_gguf(self.path if self.parent is None else self.parent.path):
            return {}
        return {key: self.generation[key] for key in NAMED_TOKENS if type(self.generation.get(key)) is int}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the config, the generation settings and the weight files, at 1 to 2 GB/s.

        That of an adapter covers its base's, too.
        """
        path, digest = self._whole(), hashlib.sha256(json.dumps(self.generation, sort_keys=True).encode())
        files = [path]
        if self.parent is not None:
            digest.update(self.parent.fingerprint.encode())
            files = [path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS]
        elif not is_gguf(path):
            with open_weights(path, allow_pickle=self.allow_pickle) as weights:
                files = [path / CONFIG, *weights.files]
        for file in files:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def network(self, *, dtype: str = "float32", device: str = "cpu") -> Network:
        """The network, in evaluation mode; weights on the hub are downloaded now. Errors: BundleError."""
        return self.adapted(dtype=dtype, device=device)[0]

    def adapted(self, *, dtype: str = "float32", device: str = "cpu") -> tuple[Network, Any]:
        """The network, and the settings of the method that adapts it, None for a whole model.

        Errors: BundleError, also for an adapter whose base is not the one that it was trained on.
        """
        if self.adapter is None or self.parent is None:
            how = {"dtype": dtype, "device": device}
            return read_network(self._whole(), self.config, **how, allow_pickle=self.allow_pickle), None
        self.require_own_base()
        return self.adapter.put_on(self.parent.network(dtype=dtype, device=device))

    def require_own_base(self) -> None:
        """Require that the base of an adapter is the one that it names by its fingerprint, if it does.

        Errors: BundleError.
        """
        if self.adapter is not None and self.parent is not None:
            _require_own_base(self.adapter, self.parent)

    def _whole(self) -> Path:
        return self.path if self.commit is None else locate(self.name, allow_pickle=self.allow_pickle)


def base_name(folder: AdapterFolder) -> str:
    """The name of an adapter's base; a relative path is relative to the current folder, else to its own."""
    name = folder.base
    plain = str(folder.values["base_model_name_or_path"])
    if plain.startswith(PREFIX):
        return plain
    for path in (Path(plain).expanduser(), folder.path / plain):
        if path.exists():  # a folder has no revisions
            if path.resolve() == folder.path.resolve():
                raise BundleError(f"{folder.path / ADAPTER_CONFIG} names itself as the base; correct it")
            return str(path)
    return name


def _require_own_base(folder: AdapterFolder, parent: Base) -> None:
    expected, shape = folder.own.base, shape_of(parent.config)
    if expected is None or expected == parent.fingerprint:
        return
    differ = f" ({shape}, not {folder.own.shape})" if folder.own.shape not in ("", shape) else ""
    raise BundleError(
        f"{folder.path} was trained on another base: {parent.name} has the fingerprint "
        f"{parent.fingerprint[:12]}, not {expected[:12]}{differ}; give that base its place, or load it "
        "with adapter="
    )


def _adapted(parent: Base, folder: AdapterFolder, name: str) -> Base:
    """An adapter on its base."""
    if parent.adapter is not None:
        raise BundleError(
            f"{folder.path} is an adapter of the adapter {parent.name}; merge that one first, "
            "with lm.merge() and lm.save(FOLDER), and give the merged model"
        )
    if folder.own.shape not in ("", shape_of(parent.config)):  # cheap to see, before any of its files is used
        _require_own_base(folder, parent)
    config, tokenizer, generation = folder.config(parent.config), parent.tokenizer, parent.generation
    if Tokenizer.is_in(folder.path):
        tokenizer = Tokenizer.load(folder.path)
        require_vocabulary(tokenizer, config, allow_added=True)
    if has_file(file := folder.path / GENERATION):
        generation = valid_settings(read_object(file), file, vocab_size=config.vocab_size)
    return replace(
        parent,
        name=name,
        path=folder.path,
        commit=None,
        config=config,
        tokenizer=tokenizer,
        generation=generation,
        adapter=folder,
        parent=parent,
    )
