"""A base model, found and read once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seedbed.hub.bundle import NAMED_TOKENS, read_bundle, read_network
from seedbed.hub.gguf import is_gguf
from seedbed.hub.locate import hub_name, locate
from seedbed.hub.weight_files import CONFIG, open_weights
from seedbed.models.family import Config, Network
from seedbed.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A model whose files have been read, except the weights; `network` reads those."""

    name: str  # opens it again: the path as the user wrote it, `package:NAME`, or `org/name@commit`
    path: Path
    commit: str | None
    config: Config
    tokenizer: Tokenizer | None
    generation: dict[str, Any]

    @classmethod
    def open(cls, model: str | Path) -> Base:
        """Find a model, as `locate` does, and read its small files; on the hub, at the present commit."""
        name, commit = str(model), None
        path = locate(model, weights=False)
        if match := hub_name(model):
            commit = path.name
            name = f"{match['repo']}@{commit}"
        config, tokenizer, generation = read_bundle(path)
        return cls(
            name=name, path=path, commit=commit, config=config, tokenizer=tokenizer, generation=generation
        )

    @property
    def named_tokens(self) -> dict[str, int]:
        """The special tokens in generation_config.json, without lists of several; none of a GGUF file's."""
        if is_gguf(self.path):
            return {}
        return {key: self.generation[key] for key in NAMED_TOKENS if type(self.generation.get(key)) is int}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the config, the generation settings and the weight files, at 1 to 2 GB/s."""
        path, digest = self._whole(), hashlib.sha256(json.dumps(self.generation, sort_keys=True).encode())
        files = [path]
        if not is_gguf(path):
            with open_weights(path) as weights:
                files = [path / CONFIG, *weights.files]
        for file in files:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def network(self, *, dtype: str = "float32", device: str = "cpu") -> Network:
        """The network, in evaluation mode; weights on the hub are downloaded now. Errors: BundleError."""
        return read_network(self._whole(), self.config, dtype=dtype, device=device)

    def _whole(self) -> Path:
        return self.path if self.commit is None else locate(self.name)
