"""Entities in the tags of words, as conlleval and seqeval find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_PREFIXES = ("B-", "I-", "E-", "S-")
# The letters of two neighbouring tags of one type between which an entity ends, and where one begins.
_ENDS = {a + b for a in "BI" for b in "BSO"} | {a + b for a in "ES" for b in "BIESO"}
_BEGINS = {a + b for a in "BIESO" for b in "BS"} | {a + b for a in "ESO" for b in "EI"}


class Entity(NamedTuple):
    """An entity of a type, from its first word to its last."""

    kind: str
    first: int
    last: int


def are_entity_tags(names: Sequence[str]) -> bool:
    """Whether tags mark entities: "O", and others that begin with B-, I-, E- or S-."""
    inside = [name for name in names if name != "O"]
    return bool(inside) and len(inside) < len(names) and all(name.startswith(_PREFIXES) for name in inside)


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of the words of one text in BIO, IOB2 or BIOES, as conlleval finds them.

    An entity that begins with I- or changes its type inside is taken as it is; an empty tag is O.
    """
    found: list[Entity] = []
    before, kind_before, first = "O", "", 0
    for i, name in enumerate([*(name or "O" for name in tags), "O"]):
        tag, kind = name[0], name[1:].split("-", maxsplit=1)[-1] or "_"
        changes = kind != kind_before
        if before + tag in _ENDS or (before != "O" and changes):
            found.append(Entity(kind_before, first, i - 1))
        if before + tag in _BEGINS or (tag != "O" and changes):
            first = i
        before, kind_before = tag, kind
    return found
