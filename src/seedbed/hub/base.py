"""A model to start from, looked up and read once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seedbed.hub.bundle import NAMED_TOKENS, read_bundle, read_network
from seedbed.hub.download import NAME
from seedbed.hub.gguf import is_gguf
from seedbed.hub.locate import locate
from seedbed.hub.weight_files import CONFIG, open_weights
from seedbed.models.family import Config, Network
from seedbed.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A model's files, of which all but the weights have been read; `network` reads those.

    `name` is what opens the same model again: the path as it was given, `package:NAME`, or `org/name@commit`
    for a model of the hub, whose `commit` it is. The chat template is part of the tokenizer.
    """

    name: str
    path: Path
    commit: str | None
    config: Config
    tokenizer: Tokenizer | None
    generation: dict[str, Any]

    @classmethod
    def open(cls, model: str | Path) -> Base:
        """Look a model up, as `locate` does, and read its config, tokenizer and generation settings.

        Of a model of the hub the small files alone are downloaded, of the commit that its revision is now.
        """
        name, commit = str(model), None
        path = locate(model, weights=False)
        if (match := NAME.fullmatch(name)) and not Path(model).expanduser().exists():
            commit = path.name
            name = f"{match['repo']}@{commit}"
        config, tokenizer, generation = read_bundle(path)
        return cls(
            name=name, path=path, commit=commit, config=config, tokenizer=tokenizer, generation=generation
        )

    @property
    def named_tokens(self) -> dict[str, int]:
        """The tokens that its answers begin and end with, by their names in generation_config.json.

        A list of several ends is left out, and so is all of a GGUF file, whose tokenizer says it.
        """
        if is_gguf(self.path):
            return {}
        return {key: self.generation[key] for key in NAMED_TOKENS if type(self.generation.get(key)) is int}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its config, its generation settings and its weights' files: 1 to 2 GB/s."""
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
        """Its network, in evaluation; weights that are on the hub alone are downloaded now.

        Errors: BundleError naming the file that is missing, cut or contradicts another.
        """
        return read_network(self._whole(), self.config, dtype=dtype, device=device)

    def _whole(self) -> Path:
        """Where all of it is."""
        return self.path if self.commit is None else locate(self.name)
