"""Texts with blanks: what a model reads of them, and the text once they are filled.

A blank is written `___`, three or more underscores, or as the model's own mask or sentinel, whichever number
that has. All other control strings in a user's text stay text, as in every text of a user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import tokenizers
from tokenizers import decoders

from seedbed.base.errors import BundleError, UsageError
from seedbed.text.library import library_errors
from seedbed.text.tokenizer import Tokenizer, refuse_surrogates

BLANK = "___"


class BlankedText(NamedTuple):
    """The ids that a model reads, where its blanks lie among them, and the user's text around them."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    parts: tuple[str, ...]  # one more than blanks


class BlankEncoder:
    """Makes tokens of texts with blanks, and a text of the tokens that fill them.

    A blank becomes the mask, or the next of the `sentinels`. Where it is to be filled by any number of tokens
    (`whole_gaps`), these bring the space before them, so the user's goes; and a text ends with a control
    token, the end token where the tokenizer puts none there.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, sentinels: Sequence[int] = (), whole_gaps: bool = False
    ) -> None:
        added, mask_id = tokenizer.added_tokens, tokenizer.mask_id
        if not sentinels and (mask_id is None or mask_id not in added):
            raise UsageError(
                "this model's tokenizer has no mask token, which a blank becomes; put mask_token into its "
                "tokenizer_config.json, or take a model that was trained to fill masks"
            )
        self._tokenizer, self._whole_gaps = tokenizer, whole_gaps
        self._is_numbered = bool(sentinels)
        self._mark_ids = tuple(sentinels) if mask_id is None or sentinels else (mask_id,)
        self._marks = [added[i] for i in self._mark_ids]
        names = "|".join(re.escape(mark.content) for mark in self._marks)
        self._blank = re.compile(f"{BLANK}_*|{names}")

    def marks(self, num_blanks: int) -> tuple[int, ...]:
        """The tokens that so many blanks become, in turn."""
        return self._mark_ids[:num_blanks] if self._is_numbered else self._mark_ids * num_blanks

    def encode(self, text: str) -> BlankedText:
        """A text with its blanks marked, inside the control tokens that the tokenizer puts around a text."""
        if not isinstance(text, str):
            raise UsageError(f"{str(text)[:60]!r} is no text; blanks are filled in texts, not in token ids")
        refuse_surrogates([text])
        parts = self._blank.split(text)
        if len(parts) == 1:
            raise UsageError(
                f"{text[:60]!r} has no blank to fill; write {BLANK} or {self._marks[0].content} where "
                "something is missing"
            )
        expected = self.marks(len(parts) - 1)
        if len(expected) < len(parts) - 1:
            raise UsageError(
                f"a text has {len(parts) - 1} blanks, but this model's tokenizer has {len(expected)} "
                "sentinels to tell them apart; cut the text into shorter ones"
            )
        before = [part.rstrip(" ") if self._whole_gaps else part for part in parts[:-1]]
        names = [self._tokenizer.added_tokens[i].content for i in expected]
        marked = "".join(piece for pair in zip(before, names, strict=True) for piece in pair) + parts[-1]
        with library_errors("the tokenizer"):
            ids = list(self._core.encode(marked, add_special_tokens=True).ids)
        places = [at for at, token_id in enumerate(ids) if token_id in self._mark_ids]
        if tuple(ids[at] for at in places) != expected:
            raise BundleError(
                f"the tokenizer finds {len(places)} masks in a text with {len(parts) - 1} blanks; set spaces "
                "around each"
            )
        end = self._tokenizer.eos_id
        if self._whole_gaps and end is not None and ids[-1] not in self._tokenizer.special_ids - {*expected}:
            ids.append(end)
        return BlankedText(tuple(ids), tuple(places), tuple(parts))

    def fill(self, blanked: BlankedText, fills: Sequence[Sequence[int]]) -> str:
        """The text with the tokens fills[i] in blank i; all else stays as the user wrote it."""
        read, text, start = list[int](), blanked.parts[0], 0
        for place, fill, after in zip(blanked.places, fills, blanked.parts[1:], strict=True):
            read += blanked.ids[start:place]
            piece, start = self.piece(read, fill), place + 1
            if self._whole_gaps and self._spells_spaces:
                text = text.rstrip(" ")
                text += piece if text and not text[-1].isspace() else piece.lstrip()
            elif self._spells_spaces:
                text = text.rstrip() if self._marks[0].lstrip else text
                text += piece if text else piece.lstrip()
            elif piece[:1].isspace() or not read:  # a word of its own: the user's spaces stand
                text += piece.lstrip()
            else:
                text = text.rstrip() + piece
            if self._whole_gaps:
                text += after if text else after.lstrip(" ")
            else:
                text += after.lstrip() if self._marks[0].rstrip else after
            read += fill
        return text

    def text(self, token_id: int) -> str:
        """The text of a token alone."""
        return self._tokenizer.decode([token_id])

    def piece(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """What tokens add to the text of those before them, their space included."""
        decode = partial(self._tokenizer.decode, skip_special=False)
        alone, both = decode(before[-1:]), decode([*before[-1:], *ids])
        return both.removeprefix(alone) if both.startswith(alone) else decode(ids)

    @cached_property
    def fillers(self) -> tuple[int, ...]:
        """The tokens that may fill a blank: all but control tokens, lowest id first."""
        named = {*self._tokenizer.vocabulary.values()}
        return tuple(sorted(named - self._tokenizer.special_ids - {*self._mark_ids}))

    @cached_property
    def _spells_spaces(self) -> bool:
        """Spaces are parts of tokens, not what the decoder sets between them."""
        return not isinstance(self._core.decoder, decoders.WordPiece)

    @cached_property
    def _core(self) -> tokenizers.Tokenizer:
        """The tokenizer with marks that are found in a text, and control tokens that are not."""
        tree = self._tokenizer.definition()
        for token in tree["added_tokens"]:
            token["special"] &= token["id"] not in self._mark_ids
        with library_errors("the tokenizer"):
            core = tokenizers.Tokenizer.from_str(json.dumps(tree))
        core.encode_special_tokens = True
        return core
