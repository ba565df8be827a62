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
RUN_RECORDS = 16  # of like lengths, dealt one after the other


class Record(NamedTuple):
    """Token ids (num_tokens,) int64; `key` is (pass, number of the record in the pass before shuffling).

    `answer` is what a labelled record is to be answered with: token ids (num_answer_tokens,), or labels.
    """

    ids: NDArray[np.int64]
    key: tuple[int, ...]
    answer: NDArray[np.int64] | None = None


class Source(Protocol):
    """Records in the order of a pass; the same for the same arguments, whatever was asked before."""

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of a pass in its order, from number `start` on; every pass has at least one."""


def generator(*seeds: int) -> np.random.Generator:
    """NumPy's generator for these seeds; it gives the same numbers on every machine."""
    return np.random.Generator(np.random.PCG64(seeds))


class Pieces(NamedTuple):
    """One pass over a shard: piece p is tokens[starts[p]:ends[p]], and the pass reads them in `order`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    order: NDArray[np.int64]


def cut_documents(
    offsets: NDArray[np.int64], context_tokens: int, first_cuts: NDArray[np.int64] | int, *, overlap: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of pieces of at most context_tokens + overlap tokens that overlap by that many.

    Overlapping by one, a piece of n + 1 tokens is n inputs with n targets, and every token of a document but
    its first is a target once; without overlap every token is in one piece. A document that does not fit has
    `first_cuts` such tokens in its first piece, context_tokens in the others and what is left in its last.
    """
    num_targets = np.diff(offsets) - overlap
    first = np.where(num_targets <= context_tokens, num_targets, np.minimum(first_cuts, num_targets))
    num_pieces = (num_targets > 0) * (1 + -(-(num_targets - first) // context_tokens))
    document = np.repeat(np.arange(len(num_targets)), num_pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    cut = first[document] + number * context_tokens  # such tokens up to the end of this piece
    starts = offsets[document] + np.where(number == 0, 0, cut - context_tokens)
    ends = offsets[document] + np.minimum(cut, num_targets[document]) + overlap
    return starts, ends


class TokenSource:
    """Pieces of a shard's documents; each pass cuts and orders them anew, drawn from (seed, pass).

    Pieces have context_tokens + overlap tokens at most. `shuffle=False` (validation) cuts each document from
    its beginning and reads in the order of the corpus; `cut_anew=False` cuts alike in every pass.
    """

    def __init__(
        self,
        shard: TokenShard,
        *,
        context_tokens: int,
        seed: int,
        shuffle: bool = True,
        overlap: int = 1,
        cut_anew: bool = True,
    ) -> None:
        if context_tokens < 1:
            raise ConfigError(f"context_tokens={context_tokens}: a record needs at least one input token")
        if not shard.num_documents or int(np.diff(shard.offsets).max()) < 2:
            raise DataError("no document has two tokens, so there is nothing to predict; give more text")
        self.shard, self.context_tokens, self.seed, self.shuffle = shard, context_tokens, seed, shuffle
        self.overlap, self.cut_anew = overlap, cut_anew
        self._pieces = lru_cache(maxsize=1)(self._cut)

    def _cut(self, pass_index: int) -> Pieces:
        size, overlap = self.context_tokens, self.overlap
        if not self.shuffle:
            starts, ends = cut_documents(self.shard.offsets, size, size, overlap=overlap)
            return Pieces(starts, ends, np.arange(len(starts)))
        order = generator(self.seed, pass_index)
        cuts = order if self.cut_anew else generator(self.seed)
        first_cuts = cuts.integers(1, size + 1, self.shard.num_documents)
        starts, ends = cut_documents(self.shard.offsets, size, first_cuts, overlap=overlap)
        return Pieces(starts, ends, order.permutation(len(starts)))

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The pieces of the pass from number `start` on."""
        pieces = self._pieces(pass_index)
        tokens = self.shard.tokens
        for block in range(start, len(pieces.order), BLOCK_RECORDS):
            numbers = pieces.order[block : block + BLOCK_RECORDS]
            starts, ends = pieces.starts[numbers].tolist(), pieces.ends[numbers].tolist()
            for number, first, end in zip(numbers.tolist(), starts, ends, strict=True):
                yield Record(tokens[first:end].astype(np.int64), (pass_index, number))


class PairSource:
    """Labelled records, inputs and answers in two shards; each pass deals all in an order of its own.

    Records of like lengths come in runs, which the passes deal in any order: their rows are one call of
    attention. An input longer than `room` for it (num_records,) loses its end, and a record whose room is
    below 0 is left out: `num_cut` and `num_left_out` say how many.
    """

    def __init__(
        self,
        inputs: TokenShard,
        answers: TokenShard,
        *,
        room: NDArray[np.int64],
        seed: int,
        shuffle: bool = True,
        cuts_answers: bool = False,
    ) -> None:
        assert inputs.num_documents == answers.num_documents == len(room)
        self.inputs, self.answers, self.room = inputs, answers, room
        self.seed, self.shuffle, self.cuts_answers = seed, shuffle, cuts_answers
        self.num_left_out = int((room < 0).sum())
        self.num_cut = int(((inputs.lengths > room) & (room >= 0)).sum())
        if self.num_left_out == len(room):
            raise DataError(
                f"none of the {len(room)} answers fits into the context; raise training.context_tokens"
            )
        self._order = lru_cache(maxsize=1)(self._draw)

    def _draw(self, pass_index: int) -> NDArray[np.int64]:
        fitting = np.flatnonzero(self.room >= 0)
        if not self.shuffle:
            return fitting
        draw = generator(self.seed, pass_index)
        shuffled = draw.permutation(fitting)
        lengths = (np.minimum(self.inputs.lengths, self.room), self.answers.lengths)
        ranked = shuffled[np.lexsort([length[shuffled] for length in lengths])]
        runs = np.array_split(ranked, -(-len(ranked) // RUN_RECORDS))
        return np.concatenate([runs[i] for i in draw.permutation(len(runs))])

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of the pass from number `start` on."""
        for number in self._order(pass_index)[start:].tolist():
            room = int(self.room[number])
            answer = self.answers.document(number)
            answer = answer[:room] if self.cuts_answers else answer
            yield Record(self.inputs.document(number)[:room], (pass_index, number), answer)


class RecordSource:
    """Records that lie in memory, with the answers of labelled ones."""

    def __init__(
        self,
        records: Sequence[Sequence[int]],
        *,
        answers: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if not records or min(map(len, records)) < 2:
            raise DataError("a record needs two token ids, and a source one record; leave shorter ones out")
        self.ids = [np.asarray(ids, dtype=np.int64) for ids in records]
        self.answers = None if answers is None else [np.asarray(ids, dtype=np.int64) for ids in answers]
        self.seed, self.shuffle = seed, shuffle
        self._order = lru_cache(maxsize=1)(self._draw)

    def _draw(self, pass_index: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.ids))
        return generator(self.seed, pass_index).permutation(len(self.ids))

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of the pass from number `start` on."""
        for number in self._order(pass_index)[start:].tolist():
            answer = None if self.answers is None else self.answers[number]
            yield Record(self.ids[number], (pass_index, number), answer)
