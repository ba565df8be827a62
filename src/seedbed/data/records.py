"""Records, the input of one training example each, and their order in every pass over the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError, DataError
from seedbed.data.shards import TokenShard

BLOCK_RECORDS = 512  # whose spans are looked up together
RUN_RECORDS = 16  # of similar lengths, read one after the other


class Record(NamedTuple):
    """Token ids (num_tokens,) int64; `key` is (pass, number of the record in the pass before shuffling).

    `answer` is that of a labelled record: token ids (num_answer_tokens,), or numbers of labels.
    """

    ids: NDArray[np.int64]
    key: tuple[int, ...]
    answer: NDArray[np.int64] | None = None


class Source(Protocol):
    """Records in the order of a pass; the same arguments always give the same records."""

    def order(self, pass_index: int) -> NDArray[np.int64]:
        """The numbers of the records of a pass, in its order; every pass has at least one."""

    def read(self, pass_index: int, numbers: NDArray[np.int64]) -> Iterator[Record]:
        """The records of a pass that have these numbers."""

    def records(self, pass_index: int, start: int) -> Iterator[Record]:
        """The records of a pass in its order, from the one at `start`."""
        yield from self.read(pass_index, self.order(pass_index)[start:])


def generator(*seeds: int) -> np.random.Generator:
    """NumPy's generator for these seeds; it gives the same numbers on every machine."""
    return np.random.Generator(np.random.PCG64(seeds))


class Spans(NamedTuple):
    """One pass over a shard: span s is tokens[starts[s]:ends[s]], and the pass reads them in `order`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    order: NDArray[np.int64]


def cut_documents(
    offsets: NDArray[np.int64], context_tokens: int, first_cuts: NDArray[np.int64] | int, *, overlap: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of spans of at most context_tokens + overlap tokens; neighbours share `overlap` tokens.

    With an overlap of 1 a span of n + 1 tokens is n inputs with n targets, and every token of a document but
    its first is a target once; without overlap every token is in one span. A longer document has
    `first_cuts` new tokens in its first span, context_tokens in the next ones, and the rest in its last.
    """
    num_targets = np.diff(offsets) - overlap
    first = np.where(num_targets <= context_tokens, num_targets, np.minimum(first_cuts, num_targets))
    num_spans = (num_targets > 0) * (1 + -(-(num_targets - first) // context_tokens))
    document = np.repeat(np.arange(len(num_targets)), num_spans)
    number = np.arange(len(document)) - np.repeat(np.cumsum(num_spans) - num_spans, num_spans)
    cut = first[document] + number * context_tokens  # new tokens up to the end of this span
    starts = offsets[document] + np.where(number == 0, 0, cut - context_tokens)
    ends = offsets[document] + np.minimum(cut, num_targets[document]) + overlap
    return starts, ends


class TokenSource(Source):
    """Spans of a shard's documents; (seed, pass) determines where they begin, and their order.

    Spans have at most context_tokens + overlap tokens. `shuffle=False` (validation) begins at the first token
    of each document and reads in the order of the corpus; `cut_anew=False` has the same spans in every pass.
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
            raise ConfigError(
                f"context_tokens={context_tokens} is not allowed: a record needs 1 or more input tokens"
            )
        if not shard.num_documents or int(np.diff(shard.offsets).max()) < 2:
            raise DataError("no document has two tokens, so there is nothing to predict; give more text")
        self.shard, self.context_tokens, self.seed, self.shuffle = shard, context_tokens, seed, shuffle
        self.overlap, self.cut_anew = overlap, cut_anew
        self._spans = lru_cache(maxsize=1)(self._cut)

    def _cut(self, pass_index: int) -> Spans:
        size, overlap = self.context_tokens, self.overlap
        if not self.shuffle:
            starts, ends = cut_documents(self.shard.offsets, size, size, overlap=overlap)
            return Spans(starts, ends, np.arange(len(starts)))
        order = generator(self.seed, pass_index)
        cuts = order if self.cut_anew else generator(self.seed)
        first_cuts = cuts.integers(1, size + 1, self.shard.num_documents)
        starts, ends = cut_documents(self.shard.offsets, size, first_cuts, overlap=overlap)
        return Spans(starts, ends, order.permutation(len(starts)))

    def order(self, pass_index: int) -> NDArray[np.int64]:
        """The numbers of the spans of the pass, in its order."""
        return self._spans(pass_index).order

    def read(self, pass_index: int, numbers: NDArray[np.int64]) -> Iterator[Record]:
        """The spans of the pass that have these numbers."""
        spans = self._spans(pass_index)
        tokens = self.shard.tokens
        for block in range(0, len(numbers), BLOCK_RECORDS):
            some = numbers[block : block + BLOCK_RECORDS]
            starts, ends = spans.starts[some].tolist(), spans.ends[some].tolist()
            for number, first, end in zip(some.tolist(), starts, ends, strict=True):
                yield Record(tokens[first:end].astype(np.int64), (pass_index, number))


class PairSource(Source):
    """Labelled records, inputs and answers in two shards; each pass has its own order.

    Records of similar lengths are read in runs, whose rows share one attention call; the order of the runs is
    random. A record with a negative one of `max_input_tokens` (num_records,) is left out, and so is one whose
    input is longer; with `cuts` the input is truncated, and with `cuts_answers` its answer likewise.
    `num_cut` and `num_left_out` count them. `numbers` are those of the source's records; None: all.
    """

    def __init__(
        self,
        inputs: TokenShard,
        answers: TokenShard,
        *,
        max_input_tokens: NDArray[np.int64],
        seed: int,
        shuffle: bool = True,
        cuts: bool = True,
        cuts_answers: bool = False,
        numbers: NDArray[np.int64] | None = None,
    ) -> None:
        assert inputs.num_documents == answers.num_documents == len(max_input_tokens)
        limits = max_input_tokens.copy()
        self.inputs, self.answers, self.max_input_tokens = inputs, answers, limits
        self.seed, self.shuffle, self.cuts_answers = seed, shuffle, cuts_answers
        is_long = inputs.lengths > limits
        if not cuts:
            limits[is_long] = -1
        elif cuts_answers:  # nothing is learned from one that is truncated before its first answer
            for number in np.flatnonzero(is_long).tolist():
                if not answers.document(number)[: max(0, int(limits[number]))].any():
                    limits[number] = -1
        self.numbers = own = np.arange(len(limits)) if numbers is None else numbers
        self.kept = own[limits[own] >= 0]
        self.num_left_out = len(own) - len(self.kept)
        self.num_cut = int(is_long[self.kept].sum())
        if not len(self.kept):
            what = "texts is longer than the context before its first tag" if cuts_answers else ""
            what = what or f"{'answers' if cuts else 'records'} is longer than the context"
            raise DataError(f"each of the {len(own)} {what}; raise training.context_tokens")
        self._order = lru_cache(maxsize=1)(self._shuffled)

    def order(self, pass_index: int) -> NDArray[np.int64]:
        """The numbers of the records of the pass, in its order."""
        return self._order(pass_index)

    def _shuffled(self, pass_index: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return self.kept
        random = generator(self.seed, pass_index)
        shuffled = random.permutation(self.kept)
        lengths = (np.minimum(self.inputs.lengths, self.max_input_tokens), self.answers.lengths)
        ranked = shuffled[np.lexsort([length[shuffled] for length in lengths])]
        runs = np.array_split(ranked, -(-len(ranked) // RUN_RECORDS))
        return np.concatenate([runs[i] for i in random.permutation(len(runs))])

    def read(self, pass_index: int, numbers: NDArray[np.int64]) -> Iterator[Record]:
        """The records that have these numbers."""
        for number in numbers.tolist():
            most = int(self.max_input_tokens[number])
            answer = self.answers.document(number)
            answer = answer[:most] if self.cuts_answers else answer
            yield Record(self.inputs.document(number)[:most], (pass_index, number), answer)


class RecordSource(Source):
    """Records in memory, with the answers of labelled ones."""

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
        self._order = lru_cache(maxsize=1)(self._shuffled)

    def order(self, pass_index: int) -> NDArray[np.int64]:
        """The numbers of the records of the pass, in its order."""
        return self._order(pass_index)

    def _shuffled(self, pass_index: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.ids))
        return generator(self.seed, pass_index).permutation(len(self.ids))

    def read(self, pass_index: int, numbers: NDArray[np.int64]) -> Iterator[Record]:
        """The records that have these numbers."""
        for number in numbers.tolist():
            answer = None if self.answers is None else self.answers[number]
            yield Record(self.ids[number], (pass_index, number), answer)


class Sample(Source):
    """Some records of pass 0 of another source, by their numbers, in every pass."""

    def __init__(self, source: Source, numbers: NDArray[np.int64]) -> None:
        self.source, self.numbers = source, numbers

    def order(self, pass_index: int) -> NDArray[np.int64]:
        """The numbers of the sample."""
        return self.numbers

    def read(self, pass_index: int, numbers: NDArray[np.int64]) -> Iterator[Record]:
        """The records of pass 0 that have these numbers."""
        return self.source.read(0, numbers)
