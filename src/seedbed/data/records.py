"""Records: what one training example is made from; any of them can be had again by its (pass, index)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError, DataError
from seedbed.data.shards import TokenShard

BLOCK_RECORDS = 512  # whose places are looked up together


class Record(NamedTuple):
    """Token ids (num_tokens,) int64; `key` is (pass, number of the record in the pass before shuffling)."""

    ids: NDArray[np.int64]
    key: tuple[int, ...]


class Source(Protocol):
    """Records in the order of a pass; the same for the same arguments, whatever was asked before."""

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of a pass in its order, from number `start` on; every pass has at least one."""


class Pieces(NamedTuple):
    """One pass over a shard: piece p is tokens[starts[p]:ends[p]], and the pass reads them in `order`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    order: NDArray[np.int64]


def cut_documents(
    offsets: NDArray[np.int64], context_tokens: int, first_cuts: NDArray[np.int64] | int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of pieces of at most context_tokens + 1 tokens that overlap by one.

    So a piece of n + 1 tokens is n inputs with n targets, and every token of a document but its first is a
    target once. A document that does not fit has `first_cuts` targets in its first piece, context_tokens
    in the others and what is left in its last.
    """
    num_targets = np.diff(offsets) - 1
    first = np.where(num_targets <= context_tokens, num_targets, np.minimum(first_cuts, num_targets))
    num_pieces = (num_targets > 0) * (1 + -(-(num_targets - first) // context_tokens))
    document = np.repeat(np.arange(len(num_targets)), num_pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    cut = first[document] + number * context_tokens  # targets of the document up to the end of this piece
    starts = offsets[document] + np.where(number == 0, 0, cut - context_tokens)
    ends = offsets[document] + np.minimum(cut, num_targets[document]) + 1
    return starts, ends


class TokenSource:
    """Pieces of a shard's documents; each pass cuts and orders them anew, drawn from (seed, pass).

    `shuffle=False` (validation) cuts each document from its beginning and reads in the order of the corpus.
    """

    def __init__(self, shard: TokenShard, *, context_tokens: int, seed: int, shuffle: bool = True) -> None:
        if context_tokens < 1:
            raise ConfigError(f"context_tokens={context_tokens}: a record needs at least one input token")
        if not shard.num_documents or int(np.diff(shard.offsets).max()) < 2:
            raise DataError("no document has two tokens, so there is nothing to predict; give more text")
        self.shard, self.context_tokens, self.seed, self.shuffle = shard, context_tokens, seed, shuffle
        self._pieces = lru_cache(maxsize=1)(self._cut)

    def _cut(self, pass_index: int) -> Pieces:
        if not self.shuffle:
            starts, ends = cut_documents(self.shard.offsets, self.context_tokens, self.context_tokens)
            return Pieces(starts, ends, np.arange(len(starts)))
        generator = np.random.Generator(np.random.PCG64([self.seed, pass_index]))
        first_cuts = generator.integers(1, self.context_tokens + 1, self.shard.num_documents)
        starts, ends = cut_documents(self.shard.offsets, self.context_tokens, first_cuts)
        return Pieces(starts, ends, generator.permutation(len(starts)))

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The pieces of the pass from number `start` on; their ids end with the token after their inputs."""
        pieces = self._pieces(pass_index)
        tokens = self.shard.tokens
        for block in range(start, len(pieces.order), BLOCK_RECORDS):
            numbers = pieces.order[block : block + BLOCK_RECORDS]
            starts, ends = pieces.starts[numbers].tolist(), pieces.ends[numbers].tolist()
            for number, first, end in zip(numbers.tolist(), starts, ends, strict=True):
                yield Record(tokens[first:end].astype(np.int64), (pass_index, number))


class RecordSource:
    """Records that lie in memory."""

    def __init__(self, records: Sequence[Sequence[int]], *, seed: int = 0, shuffle: bool = True) -> None:
        if not records or min(map(len, records)) < 2:
            raise DataError("a record needs two token ids, and a source one record; leave shorter ones out")
        self.ids = [np.asarray(ids, dtype=np.int64) for ids in records]
        self.seed, self.shuffle = seed, shuffle
        self._order = lru_cache(maxsize=1)(self._draw)

    def _draw(self, pass_index: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.ids))
        return np.random.Generator(np.random.PCG64([self.seed, pass_index])).permutation(len(self.ids))

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of the pass from number `start` on."""
        for number in self._order(pass_index)[start:].tolist():
            yield Record(self.ids[number], (pass_index, number))
