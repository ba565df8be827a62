"""Texts with blanks: the token ids that a model reads, and the text with the blanks filled.

A blank is written `___`, three or more underscores, or as the model's own mask or sentinel with any number.
Every other special token in a user's text stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple

import tokenizers
from tokenizers import decoders

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.library import library_errors
from seedbed.text.special_form import AFTER, BEFORE, BLANK_KEY
from seedbed.text.tokenizer import Tokenizer, refuse_surrogates

BLANK = "___"


class BlankedText(NamedTuple):
    """The ids that a model reads, the position of each blank in them, and the texts around the blanks."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    parts: tuple[str, ...]  # one more than blanks


class BlankEncoder:
    """What encoders of texts with blanks share.

    `mark_ids` are the special tokens that one puts into a text, `names` the texts that stand for a blank
    besides `___`.
    """

    def __init__(self, tokenizer: Tokenizer, mark_ids: Sequence[int], names: Sequence[str] = ()) -> None:
        self._tokenizer, self._mark_ids, self._names = tokenizer, tuple(mark_ids), tuple(names)
        self._blank = re.compile("|".join([f"{BLANK}_*", *map(re.escape, names)]))

    def text(self, token_id: int) -> str:
        """Return the text of a token alone."""
        return self._tokenizer.decode([token_id])

    def added_text(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """Return what tokens add to the text of the tokens before them, with the space between."""
        decode = partial(self._tokenizer.decode, skip_special=False)
        alone, both = decode(before[-1:]), decode([*before[-1:], *ids])
        return both.removeprefix(alone) if both.startswith(alone) else decode(ids)

    @cached_property
    def fillers(self) -> tuple[int, ...]:
        """The tokens that may fill a blank, all but special tokens, lowest id first."""
        named = {*self._tokenizer.vocabulary.values()}
        return tuple(sorted(named - self._tokenizer.special_ids - {*self._mark_ids}))

    def _split(self, text: str) -> list[str]:
        if not isinstance(text, str):
            raise UsageError(f"{str(text)[:60]!r} is not a text; give text with blanks")
        refuse_surrogates([text])
        parts = self._blank.split(text)
        if len(parts) == 1:
            raise UsageError(
                f"{text[:60]!r} has no blank to fill; write {' or '.join([BLANK, *self._names[:1]])} where "
                "something is missing"
            )
        return parts

    def _ids(self, marked: str, expected: Sequence[int], *, add_special_tokens: bool) -> list[int]:
        """Encode a text that contains the names of exactly the marks `expected`, in this order."""
        with library_errors("the tokenizer"):
            ids = list(self._core.encode(marked, add_special_tokens=add_special_tokens).ids)
        found = [i for i in ids if i in self._mark_ids]
        if found != list(expected):
            raise BundleError(
                f"the tokenizer finds {len(found)} special tokens where the blanks of the text make "
                f"{len(expected)}; put a space before and after each blank, and no special token in the text"
            )
        return ids

    @cached_property
    def _core(self) -> tokenizers.Tokenizer:
        """The tokenizer with marks that it finds in a text, and special tokens that it takes for text."""
        tree = self._tokenizer.definition()
        for token in tree["added_tokens"]:
            token["special"] &= token["id"] not in self._mark_ids
        with library_errors("the tokenizer"):
            core = tokenizers.Tokenizer.from_str(json.dumps(tree))
        core.encode_special_tokens = True
        return core


class MarkedBlanks(BlankEncoder):
    """Each blank becomes the mask, or the next of the `sentinels`.

    Where any number of tokens may fill a blank (`whole_gaps`), they bring the space before them, so the
    user's is dropped; and the text ends with a special token, the end token where the tokenizer adds none.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, sentinels: Sequence[int] = (), whole_gaps: bool = False
    ) -> None:
        added, marks = tokenizer.added_tokens, tuple(sentinels) or (tokenizer.mask_id,)
        if not added.keys() >= {*marks}:
            raise UsageError(
                "this model's tokenizer has no mask token, which a blank becomes; put mask_token into its "
                "tokenizer_config.json, or use a model that was trained to fill masks"
            )
        self._whole_gaps, self._is_numbered = whole_gaps, bool(sentinels)
        self._marks = {i: added[i] for i in marks if i is not None}
        super().__init__(tokenizer, [*self._marks], [mark.content for mark in self._marks.values()])

    def sentinels(self, num: int) -> tuple[int, ...]:
        """Return the sentinels of the first blanks, at most `num`; () where blanks become masks."""
        return self._mark_ids[:num] if self._is_numbered else ()

    def encode(self, text: str) -> BlankedText:
        """Encode a text with its blanks marked, and the special tokens around it; UsageError without one."""
        parts = self._split(text)
        num = len(parts) - 1
        expected = self.sentinels(num) or self._mark_ids * num
        if len(expected) < num:
            raise UsageError(
                f"a text has {num} blanks, but this model's tokenizer has {len(expected)} "
                "sentinels to number them; cut the text into shorter ones"
            )
        before = [part.rstrip(" ") if self._whole_gaps else part for part in parts[:-1]]
        names = [self._marks[i].content for i in expected]
        marked = "".join(chain(*zip(before, names, strict=True))) + parts[-1]
        ids = self._ids(marked, expected, add_special_tokens=True)
        places = [at for at, token_id in enumerate(ids) if token_id in self._mark_ids]
        end = self._tokenizer.eos_id
        if self._whole_gaps and end is not None and ids[-1] not in self._tokenizer.special_ids - {*expected}:
            ids.append(end)
        return BlankedText(tuple(ids), tuple(places), tuple(parts))

    def fill(self, blanked: BlankedText, fills: Sequence[Sequence[int]]) -> str:
        """Return the text with the tokens fills[i] in blank i; the rest stays as the user wrote it."""
        read, text, start, mark = list[int](), blanked.parts[0], 0, self._marks[self._mark_ids[0]]
        for place, fill, after in zip(blanked.places, fills, blanked.parts[1:], strict=True):
            read += blanked.ids[start:place]
            added, start = self.added_text(read, fill), place + 1
            if self._whole_gaps and self._spells_spaces:
                text = text.rstrip(" ")
                text += added if text and not text[-1].isspace() else added.lstrip()
            elif self._spells_spaces:
                text = text.rstrip() if mark.lstrip else text
                text += added if text else added.lstrip()
            elif added[:1].isspace() or not read:  # a word of its own: the user's spaces stay
                text += added.lstrip()
            else:
                text = text.rstrip() + added
            if self._whole_gaps:
                text += after if text else after.lstrip(" ")
            else:
                text += after.lstrip() if mark.rstrip else after
            read += fill
        return text

    @cached_property
    def _spells_spaces(self) -> bool:
        """Whether spaces are parts of tokens; a WordPiece decoder puts them between tokens."""
        return not isinstance(self._core.decoder, decoders.WordPiece)


class InfillPrompt(BlankEncoder):
    """One blank, at the end of a prompt with the text before and after it (Bavarian et al. 2207.14255).

    `template` is the prompt with BEFORE and AFTER in the place of the two texts; whatever else it contains
    are special tokens of the tokenizer. A space before the blank is left to the tokens that fill it: a token
    of a word begins with it.
    """

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        ids = infill_ids(tokenizer, template)
        if ids is None:
            raise BundleError(
                f"generation_config.json says that a text with a blank is prompted as {template[:100]!r} "
                f"({BLANK_KEY}), and this model's tokenizer has no such special tokens; use the tokenizer of "
                "its training"
            )
        super().__init__(tokenizer, ids)
        self._template = template

    def encode(self, text: str) -> BlankedText:
        """Encode the prompt, with the special tokens before a text; UsageError unless it has one blank."""
        parts = self._split(text)
        if len(parts) > 2:
            raise UsageError(
                f"the text has {len(parts) - 1} blanks, and this model fills one; fill one at a time"
            )
        texts = {BEFORE: parts[0].removesuffix(" "), AFTER: parts[1]}
        marked = "".join(texts.get(part, part) for part in _template_parts(self._template))
        ids = (*self._tokenizer.around_ids[0], *self._ids(marked, self._mark_ids, add_special_tokens=False))
        return BlankedText(ids, (len(ids),), tuple(parts))

    def fill(self, blanked: BlankedText, fills: Sequence[Sequence[int]]) -> str:
        """Return the text with the tokens fills[0] in its blank."""
        (before, after), added = blanked.parts, self.added_text(blanked.ids, fills[0])
        return (before.removesuffix(" ") if added[:1].isspace() else before) + added + after


def _template_parts(template: str) -> list[str]:
    return re.split(f"({re.escape(BEFORE)}|{re.escape(AFTER)})", template)


def infill_ids(tokenizer: Tokenizer, template: str) -> list[int] | None:
    """Return the special tokens of a template of `InfillPrompt`, None where the tokenizer lacks one."""
    special = {t.content: i for i, t in tokenizer.added_tokens.items() if t.special and t.content}
    around = "".join(part for part in _template_parts(template) if part not in (BEFORE, AFTER))
    names = re.findall("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)", around)
    has_both = all(template.count(text) == 1 for text in (BEFORE, AFTER))
    return [special[name] for name in names] if names and has_both and "".join(names) == around else None
