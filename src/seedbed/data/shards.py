"""Token shards: the documents of a corpus as one memory-mapped array of ids, with their offsets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import DataError
from seedbed.base.files import disk_errors

TOKENS, OFFSETS, META = "tokens.bin", "offsets.bin", "meta.json"


@dataclass(frozen=True, kw_only=True)
class ShardMeta:
    """The content of a shard; `num_bytes` is the UTF-8 length of the text, for bits per byte."""

    vocab_size: int
    num_documents: int
    num_tokens: int
    num_bytes: int
    fingerprint: str  # SHA-256 of the tokens and the offsets


def token_type(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The narrower of uint16 and uint32, little-endian, that can store every id of a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class ShardWriter:
    """Writes a shard into the folder `path`, document by document, a document in one or more chunks.

    Nothing is renamed or synced: `prepare_shards` writes all shards of a corpus in a folder aside.
    """

    def __init__(self, path: Path | str, *, vocab_size: int) -> None:
        self.path, self.vocab_size = Path(path), vocab_size
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._tokens = (self.path / TOKENS).open("wb")
        self._offsets = [0]
        self._num_tokens = self._num_bytes = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # a full disk has been reported already
            self._tokens.close()

    def append(self, ids: Sequence[int] | NDArray[np.int64], *, num_bytes: int = 0) -> None:
        """Add the ids of `num_bytes` of text to the current document."""
        chunk = np.asarray(ids, dtype=np.int64)
        if chunk.size and not 0 <= int(chunk.min()) <= int(chunk.max()) < self.vocab_size:
            raise DataError(
                f"token ids from {chunk.min()} to {chunk.max()} are not within vocab_size={self.vocab_size}; "
                "use the tokenizer that belongs to this vocabulary"
            )
        raw = chunk.astype(token_type(self.vocab_size)).tobytes()
        with disk_errors(self.path):
            self._tokens.write(raw)
        self._hash.update(raw)
        self._num_tokens += chunk.size
        self._num_bytes += num_bytes

    def end_document(self, *, keep_empty: bool = False) -> None:
        """End the current document; one without tokens is dropped unless `keep_empty`."""
        if keep_empty or self._num_tokens > self._offsets[-1]:
            self._offsets.append(self._num_tokens)

    @property
    def num_documents(self) -> int:
        """Documents in the shard."""
        return len(self._offsets) - 1

    def close(self) -> TokenShard:
        """Write the offsets and the metadata, and open the shard."""
        offsets = np.asarray(self._offsets, dtype="<i8").tobytes()
        self._hash.update(offsets)
        meta = ShardMeta(
            vocab_size=self.vocab_size,
            num_documents=self.num_documents,
            num_tokens=self._num_tokens,
            num_bytes=self._num_bytes,
            fingerprint=self._hash.hexdigest(),
        )
        with disk_errors(self.path):
            self._tokens.close()
            (self.path / OFFSETS).write_bytes(offsets)
            (self.path / META).write_text(json.dumps(asdict(meta), indent=2) + "\n", encoding="utf-8")
        return TokenShard.open(self.path)


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenShard:
    """Document d is `tokens[offsets[d]:offsets[d + 1]]`; the tokens are memory-mapped."""

    meta: ShardMeta
    tokens: NDArray[np.unsignedinteger]  # (num_tokens,)
    offsets: NDArray[np.int64]  # (num_documents + 1,)

    @classmethod
    def open(cls, path: Path | str) -> TokenShard:
        """Map a shard that `ShardWriter` wrote; DataError if it is missing or inconsistent.

        The ids are not read: `prepare_shards` compares all files with their SHA-256.
        """
        path = Path(path)
        try:
            meta = ShardMeta(**json.loads((path / META).read_text(encoding="utf-8")))
            offsets = np.fromfile(path / OFFSETS, dtype="<i8")
            tokens: NDArray[np.unsignedinteger] = np.zeros(0, token_type(meta.vocab_size))
            if meta.num_tokens:
                # A plain view is mapped too; slicing a memmap object takes ten times as long.
                tokens = np.asarray(np.memmap(path / TOKENS, dtype=token_type(meta.vocab_size), mode="r"))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} is not a readable token shard ({error}); delete it to write it again"
            ) from error
        ends = (len(tokens), len(offsets) - 1, int(offsets[-1]) if len(offsets) else -1)
        if ends != (meta.num_tokens, meta.num_documents, meta.num_tokens):
            raise DataError(
                f"{path} has {len(tokens)} tokens and {len(offsets) - 1} documents, but its {META} says "
                f"{meta.num_tokens} and {meta.num_documents}; delete the folder to write it again"
            )
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise DataError(f"{path / OFFSETS} does not rise from 0; delete the folder to write it again")
        return cls(meta=meta, tokens=tokens, offsets=offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, (num_documents,)."""
        return np.diff(self.offsets)

    def document(self, number: int) -> NDArray[np.int64]:
        """The ids of one document."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]].astype(np.int64)

    @property
    def num_documents(self) -> int:
        """Documents in the shard."""
        return self.meta.num_documents

    @property
    def num_tokens(self) -> int:
        """Tokens in the shard."""
        return self.meta.num_tokens

    @property
    def num_bytes(self) -> int:
        """Bytes of the text that was tokenized."""
        return self.meta.num_bytes


def write_shard(path: Path | str, token_lists: Iterable[Sequence[int]], *, vocab_size: int) -> TokenShard:
    """Write a shard of documents of token ids."""
    with ShardWriter(path, vocab_size=vocab_size) as writer:
        for ids in token_lists:
            writer.append(ids)
            writer.end_document()
        return writer.close()
