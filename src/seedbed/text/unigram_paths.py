"""A unigram model's best segmentation in SentencePiece's own arithmetic, where several are equally likely.

In a row such as "0000000" the entries "0" and "0000" may come in any order: the sums of their scores are
equal, and the rounding of SentencePiece's float32 decides. The `tokenizers` library adds in float64.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from seedbed.text.sentencepiece_model import METASPACE

BYTE = re.compile("<0x[0-9A-F]{2}>")
CROSSES, WORD = re.compile(f"[^{METASPACE}]{METASPACE}"), re.compile(f"(?<=[^{METASPACE}])(?={METASPACE})")
MAX_KNOWN, MAX_WORDS = 32, 1 << 16  # characters of a word whose segmentation is kept, and such words
UNKNOWN_PENALTY = 10.0  # below the lowest score (unigram_model.cc)


class UnigramPaths:
    """Segments texts with ties, each alone or between two of the tokens `kept`.

    `model` is that of a tokenizer.json with the type Unigram; `hidden` are ids that no text becomes. Errors:
    ValueError for a model without a token for unknown text, or without one of the 256 bytes.
    """

    def __init__(self, model: Mapping[str, Any], *, hidden: frozenset[int], kept: Mapping[str, int]) -> None:
        entries = enumerate(model["vocab"])
        self._unknown_id, self._has_bytes = model["unk_id"], model["byte_fallback"]
        hidden |= {self._unknown_id}
        named = {i for i, (text, _) in enumerate(model["vocab"]) if BYTE.fullmatch(text)}
        hidden |= named if self._has_bytes else set()
        if self._unknown_id is None or (self._has_bytes and len(named) != 256):
            raise ValueError("its unigram model lacks the token for unknown text or one of the 256 bytes")
        self._ids = {text: i for i, (text, _) in enumerate(model["vocab"])}
        self._scores = {
            text: float(score) for i, (text, score) in entries if i not in hidden and text not in kept
        }
        self._lengths = sorted({len(text) for text in self._scores})
        self._unknown_score = array("f", [min(0.0, *self._scores.values()) - UNKNOWN_PENALTY])[0]
        self._kept = kept
        names = sorted(kept, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
        powers = defaultdict[str, list[int]](list)
        for text in self._scores:
            root = text[: (text + text).index(text, 1)]
            powers[root].append(len(text) // len(root))
        # No entry crosses into the next word, so that each word is segmented alone.
        self._cut = None if any(CROSSES.search(text) for text in self._scores) else WORD
        self._known: dict[str, list[tuple[int, int, float]]] = {}
        # The shortest rows in which two entries may change places.
        self._rows = [root * sum(sorted(found)[:2]) for root, found in powers.items() if len(found) > 1]

    def has_ties(self, text: str) -> bool:
        """Whether a normalized text may have several best segmentations."""
        return any(row in text for row in self._rows)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a normalized text, and where each starts and ends in it."""
        ids, spans, at = list[int](), list[tuple[int, int]](), 0
        for i, part in enumerate(self._split.split(text) if self._split else [text]):
            found = [(self._kept[part], 0, len(part))] if i % 2 else self._best(part)
            ids += [token for token, _, _ in found]
            spans += [(at + start, at + end) for _, start, end in found]
            at += len(part)
        return ids, spans

    def _best(self, text: str) -> list[tuple[int, int, int]]:
        """The tokens of the most likely segmentation, each with its start and end."""
        spans, total, at = list[tuple[int, int]](), array("f", [0.0]), 0
        for word in self._cut.split(text) if self._cut else [text]:
            ends = self._known.get(word)
            if ends is None:
                is_tied = self.has_ties(word)
                ends = self._viterbi(word, total[0] if is_tied else 0.0)
                if not is_tied and len(word) <= MAX_KNOWN:
                    if len(self._known) == MAX_WORDS:
                        self._known = {}
                    self._known[word] = ends
            for start, end, score in ends:
                total[0] += score
                spans.append((at + start, at + end))
            at += len(word)
        return list(self._tokens(text, spans))

    def _viterbi(self, text: str, total_score: float) -> list[tuple[int, int, float]]:
        """The best segmentation of a word behind a text of that score: starts, ends and scores."""
        size, scores = len(text), self._scores
        best, start_of, total = array("f", bytes(4 * (size + 1))), [-1] * (size + 1), array("f", [0.0])
        best[0] = total_score
        for start in range(size):
            before = best[start]
            for length in self._lengths:
                score, end = scores.get(text[start : start + length]), start + length
                if score is not None and end <= size:
                    total[0] = score + before  # rounded to float32
                    if start_of[end] < 0 or total[0] > best[end]:
                        best[end], start_of[end] = total[0], start
            if text[start] not in scores:
                total[0] = self._unknown_score + before
                if start_of[start + 1] < 0 or total[0] > best[start + 1]:
                    best[start + 1], start_of[start + 1] = total[0], start
        found, end = list[tuple[int, int, float]](), size
        while end:
            start = start_of[end]
            found.append((start, end, scores.get(text[start:end], self._unknown_score)))
            end = start
        return found[::-1]

    def _tokens(self, text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        unknown: tuple[int, int] | None = None
        for start, end in spans:
            if text[start:end] in self._scores:
                if unknown:
                    yield self._unknown_id, *unknown
                unknown = None
                yield self._ids[text[start:end]], start, end
            elif self._has_bytes:
                for byte in text[start:end].encode():
                    yield self._ids[f"<0x{byte:02X}>"], start, end
            else:
                unknown = (unknown[0] if unknown else start, end)
        if unknown:
            yield self._unknown_id, *unknown
