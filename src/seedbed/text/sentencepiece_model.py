"""A SentencePiece model's file, read without its library: entries with scores, and how a text is normalised.

The file is a protobuf (sentencepiece_model.proto, where entries are "pieces"); every length in it is checked
before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedbed.base.errors import BundleError
from seedbed.base.json_file import read_file

METASPACE = "\u2581"  # SentencePiece's mark of a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
MAX_ENTRIES = 1 << 19  # Gemma 3 has 262,144
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
TOO_SHORT = "it ends in the middle of a field"


class Entry(NamedTuple):
    """An entry of the vocabulary; its index is the token id."""

    text: str
    score: float = 0.0
    type: int = NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """The contents of a model's file; the defaults are those of sentencepiece_model.proto."""

    entries: tuple[Entry, ...]
    kind: int = UNIGRAM
    byte_fallback: bool = False
    suffix: bool = False  # the mark of a space ends a word instead of beginning one
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True


STORED_AS = {bool: int, str: bytes}
# The field numbers of three messages, with our names and types.
ENTRY = {1: ("text", str), 2: ("score", float), 3: ("type", int)}
TRAINER = {3: ("kind", int), 24: ("suffix", bool), 35: ("byte_fallback", bool)}
TRAINER |= {40: ("unk_id", int), 41: ("bos_id", int), 42: ("eos_id", int), 43: ("pad_id", int)}
NORMALIZER = {2: ("charsmap", bytes), 3: ("dummy_prefix", bool)}
NORMALIZER |= {4: ("remove_extra_spaces", bool), 5: ("escape_spaces", bool)}


def read_model(file: Path) -> SentencePieceModel:
    """The model in a file; a BundleError names what is truncated, damaged or beyond the limits."""
    try:
        return _parse(read_file(file))
    except (ValueError, struct.error) as error:
        raise BundleError(
            f"{file} is not a whole SentencePiece model: {error}; download it again, or give a tokenizer.json"
        ) from None


def _parse(content: bytes) -> SentencePieceModel:
    entries: list[Entry] = []
    values: dict[str, Any] = {}
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            entry = Entry(**{"text": ""} | _message(value, ENTRY))
            entries.append(entry)
            if not entry.text or not math.isfinite(entry.score) or not NORMAL <= entry.type <= BYTE:
                raise ValueError(
                    f"it has the entry {entry.text[:40]!r} of type {entry.type} with score {entry.score}"
                )
        elif number in (2, 3) and isinstance(value, bytes):
            values |= _message(value, TRAINER if number == 2 else NORMALIZER)
        if len(entries) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    if len({entry.text for entry in entries}) != len(entries):
        raise ValueError("it has an entry twice")
    if sum(entry.type == UNKNOWN for entry in entries) != 1:
        raise ValueError("it does not have exactly one entry for unknown text")
    if charsmap := values.get("charsmap"):
        check_charsmap(charsmap)
    return SentencePieceModel(tuple(entries), **values)


def _message(content: bytes, fields: Mapping[int, tuple[str, type]]) -> dict[str, Any]:
    """The values of a message's known fields by name."""
    found: dict[str, Any] = {}
    for number, value in _fields(content):
        if number in fields:
            name, of_type = fields[number]
            if not isinstance(value, STORED_AS.get(of_type, of_type)):
                raise ValueError(f"its {name} has the wrong type")
            found[name] = value.decode() if isinstance(value, bytes) and of_type is str else of_type(value)
    return found


def _fields(content: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protobuf message: integers signed, 4 bytes as a float, everything else as bytes."""
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(content, at)
            yield number, value - (1 << 64) if value >> 63 else value
        elif wire == FIXED32:
            (real,) = struct.unpack_from("<f", content, at)
            at += 4
            yield number, float(real)
        elif wire in (FIXED64, BYTES):
            size, at = (8, at) if wire == FIXED64 else _varint(content, at)
            if size > end - at:
                raise ValueError(TOO_SHORT)
            yield number, content[at : at + size]
            at += size
        else:
            raise ValueError(f"it has a field of the unknown wire type {wire}")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(content):
            raise ValueError(TOO_SHORT)
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ValueError("it has an integer of more than ten bytes")


def check_charsmap(content: bytes) -> None:
    """Refuse a character map that points outside itself, on which the library would panic.

    It is a trie of 32-bit units in a double array (Darts), then the replacement texts, each ended by a zero
    byte.
    """
    (size,) = struct.unpack_from("<I", content)
    texts = content[4 + size :]
    if size % 1024 or not size or size > len(content) - 4 or not texts.endswith(b"\0"):
        raise ValueError("its character map is truncated")
    texts.decode()
    units = np.frombuffer(content, "<u4", size // 4, offset=4)
    ends = units[units >> 31 == 1] & 0x7FFFFFFF  # a leaf is the offset of its text
    starts = np.flatnonzero(np.frombuffer(b"\0" + texts[:-1], np.uint8) == 0)
    if not np.isin(ends, starts).all():
        raise ValueError("its character map points to no text")
    inner = np.flatnonzero(units >> 31 == 0)
    offsets = (units[inner] >> 10) << ((units[inner] & (1 << 9)) >> 6)
    children = inner ^ offsets
    if (children >= len(units)).any():
        raise ValueError("its character map points outside itself")
    leaves = children[(units[inner] >> 8) & 1 == 1]
    if (units[leaves] >> 31 == 0).any():
        raise ValueError("its character map has a leaf without a text")
