"""SentencePiece's normalization of a text, exactly: its character map, its symbols and its spaces.

The `tokenizers` library applies a character map to one grapheme or one character at a time, and so misses
most replacements of several characters: half-width katakana with a voiced mark, decomposed Vietnamese, Hangul
jamo. Its normalizer is what other programs find in tokenizer.json; this one is what seedbed uses.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from seedbed.text.sentencepiece_model import METASPACE

IS_LEAF, LABEL = 1 << 31, (1 << 31) | 0xFF  # of a unit of the trie (Darts-clone's double array)


class CharacterMap:
    """A model's replacements of characters, the longest first; the map was checked when it was read."""

    def __init__(self, content: bytes) -> None:
        (size,) = struct.unpack_from("<I", content)
        self._array = np.frombuffer(content, "<u4", size // 4, offset=4)
        self._units: list[int] = self._array.tolist()
        self._texts = content[4 + size :]
        self._root = self._inner(0)

    def longest(self, text: str, at: int) -> tuple[str, int]:
        """The replacement of the longest sequence that begins at a character, and where that ends.

        A character without one stays.
        """
        found, node, units = (text[at], at + 1), self._root, self._units
        for end in range(at, len(text)):
            unit = 0
            for byte in text[end].encode():
                unit = units[node ^ byte]
                if unit & LABEL != byte:
                    return found
                node ^= byte ^ _offset(unit)
            if unit >> 8 & 1:
                found = self._text(node), end + 1
        return found

    @cached_property
    def starts(self) -> tuple[set[str], set[str], set[str]]:
        """The characters that are replaced alone, that begin a longer sequence, and that continue one."""
        alone, begin, follow, seen = set[str](), set[str](), set[str](), set[int]()
        following = []
        for character, node, has_text in self._characters(self._root):
            if has_text:
                alone.add(character)
            if self._labels(node):
                begin.add(character)
                following.append(node)
        while following:
            node = following.pop()
            if node not in seen:
                seen.add(node)
                for character, behind, _ in self._characters(node):
                    follow.add(character)
                    following.append(behind)
        return alone, begin, follow

    def _characters(self, node: int, before: bytes = b"") -> Iterator[tuple[str, int, bool]]:
        """The characters that may follow, each with the node behind it and whether a sequence ends there."""
        for byte in self._labels(node):
            unit = self._units[node ^ byte]
            behind, encoded = node ^ byte ^ _offset(unit), before + bytes([byte])
            length = 1 + (encoded[0] >= 0xC0) + (encoded[0] >= 0xE0) + (encoded[0] >= 0xF0)
            if len(encoded) < length:
                yield from self._characters(behind, encoded)
            else:
                yield encoded.decode(errors="replace"), behind, bool(unit >> 8 & 1)

    def _labels(self, node: int) -> list[int]:
        labels = np.arange(1, 256)
        return list(labels[(self._array[node ^ labels] & LABEL) == labels].tolist())

    def _inner(self, unit: int) -> int:
        return unit ^ _offset(self._units[unit])

    def _text(self, node: int) -> str:
        at = self._units[node] & ~IS_LEAF
        return self._texts[at : self._texts.index(b"\0", at)].decode()


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


class SentencePieceNormalizer:
    """What SentencePiece does to a text before it looks for entries (normalizer.cc, `Normalize`).

    `symbols` are the user-defined entries, which stay as they are; `kept` are added tokens, which are split
    off before: each text between two of them is normalized alone. No replacement has two spaces together.
    """

    def __init__(
        self,
        charsmap: bytes,
        *,
        dummy_prefix: bool,
        remove_extra_spaces: bool,
        symbols: Iterable[str] = (),
        kept: Iterable[str] = (),
    ) -> None:
        self.dummy_prefix, self.remove_extra_spaces = dummy_prefix, remove_extra_spaces
        self._map = CharacterMap(charsmap) if charsmap else None
        self._symbols: dict[str, list[str]] = {}
        for symbol in sorted(symbols, key=len, reverse=True):
            self._symbols.setdefault(symbol[:1], []).append(symbol)
        names = sorted(kept, key=len, reverse=True)
        self._kept = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None

    def __call__(self, text: str) -> str:
        parts = self._kept.split(text) if self._kept else [text]
        return "".join(part if i % 2 else self._spaced(part) for i, part in enumerate(parts))

    def aligned(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The normalized text, and for each of its characters where in `text` its origin starts and ends."""
        found, spans, at = "", list[tuple[int, int]](), 0
        for i, part in enumerate(self._kept.split(text) if self._kept else [text]):
            if i % 2:
                found, spans = found + part, [*spans, *((at + k, at + k + 1) for k in range(len(part)))]
            else:
                normalized, own = self._spaced_spans(part)
                found, spans = found + normalized, [*spans, *((at + a, at + b) for a, b in own)]
            at += len(part)
        return found, spans

    def _spaced(self, text: str) -> str:
        if not text:
            return ""
        text = "".join(replaced for replaced, _, _ in self._replaced(text))
        if self.remove_extra_spaces:
            text = re.sub(" {2,}", " ", text.lstrip(" "))
        text = METASPACE * self.dummy_prefix + text.replace(" ", METASPACE)
        return text.rstrip(METASPACE) if self.remove_extra_spaces else text

    def _spaced_spans(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """As `_spaced`, character by character."""
        found: list[tuple[str, int, int]] = [("", 0, 0)] * 0
        removes = self.remove_extra_spaces
        for replaced, start, end in self._replaced(text):
            is_same = len(replaced) == end - start
            for k, character in enumerate(replaced):
                if not (removes and character == " " and (not found or found[-1][0] == " ")):
                    found.append(
                        (character, start + k, start + k + 1) if is_same else (character, start, end)
                    )
        if self.dummy_prefix and text:
            found.insert(0, (METASPACE, *(found[0][1:] if found else (0, len(text)))))
        while removes and found and found[-1][0] in (" ", METASPACE):
            found.pop()
        normalized = "".join(character for character, _, _ in found).replace(" ", METASPACE)
        return normalized, [(start, end) for _, start, end in found]

    def _replaced(self, text: str) -> Iterator[tuple[str, int, int]]:
        """The text in parts, replaced or not, each with where its origin starts and ends."""
        if self._map is None:
            yield text, 0, len(text)
            return
        alone, longer, follows = self._patterns
        pattern = longer if follows.search(text) else alone
        done = at = 0
        while found := pattern.search(text, at):
            at = found.start()
            symbol = next((s for s in self._symbols.get(text[at], ()) if text.startswith(s, at)), None)
            if symbol is not None:
                at += len(symbol)
                continue
            replaced, end = self._map.longest(text, at)
            if replaced != text[at:end]:
                yield text[done:at], done, at
                yield replaced, at, end
                done = end
            at = end
        yield text[done:], done, len(text)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
        """What begins where something may be replaced: alone, or in sequences, too; what continues those."""
        assert self._map is not None
        alone, begin, follow = self._map.starts
        single, next_ = _any_of(alone | self._symbols.keys()), _any_of(follow)
        return re.compile(single), re.compile(f"{single}|{_any_of(begin)}(?={next_})"), re.compile(next_)


def _any_of(characters: Iterable[str]) -> str:
    """A pattern of some characters, and of all beyond U+FFFF, which `re` would compare one by one."""
    basic = "".join(map(re.escape, sorted(c for c in characters if c <= "\uffff")))
    return f"[{basic}\U00010000-\U0010ffff]"
