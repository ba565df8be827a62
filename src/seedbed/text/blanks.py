"""Texts with blanks: what a masked model reads of them, and the text once they are filled.

A blank is written `___`, three or more underscores, or as the model's own mask. All other control strings in
a user's text stay text, as in every text of a user's.
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


class MaskedText(NamedTuple):
    """The ids that a masked model reads, where its blanks lie among them, and the text around them."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    parts: tuple[str, ...]  # one more than blanks


class MaskEncoder:
    """Makes tokens of texts with blanks, and a text of the tokens that fill them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        mask = None if tokenizer.mask_id is None else tokenizer.added_tokens.get(tokenizer.mask_id)
        if mask is None or tokenizer.mask_id is None:
            raise UsageError(
                "this model's tokenizer has no mask token, which a blank becomes; put mask_token into its "
                "tokenizer_config.json, or take a model that was trained to fill masks"
            )
        self._tokenizer = tokenizer
        self._mask_id, self._mask = tokenizer.mask_id, mask
        self._blank = re.compile(f"{BLANK}_*|{re.escape(self._mask.content)}")

    def encode(self, text: str) -> MaskedText:
        """A text with its blanks masked, inside the control tokens that the tokenizer puts around a text."""
        if not isinstance(text, str):
            raise UsageError(f"{str(text)[:60]!r} is no text; blanks are filled in texts, not in token ids")
        refuse_surrogates([text])
        parts = self._blank.split(text)
        if len(parts) == 1:
            raise UsageError(
                f"{text[:60]!r} has no blank to fill; write {BLANK} or {self._mask.content} where something "
                "is missing"
            )
        with library_errors("the tokenizer"):
            ids = self._core.encode(self._mask.content.join(parts), add_special_tokens=True).ids
        places = [at for at, token_id in enumerate(ids) if token_id == self._mask_id]
        if len(places) != len(parts) - 1:
            raise BundleError(
                f"the tokenizer finds {len(places)} masks in a text with {len(parts) - 1} blanks; set spaces "
                "around each"
            )
        return MaskedText(tuple(ids), tuple(places), tuple(parts))

    def fill(self, masked: MaskedText, token_ids: Sequence[int]) -> str:
        """The text with a token in each of its blanks; all else stays as the user wrote it."""
        ids, text = list(masked.ids), masked.parts[0]
        for place, token_id, after in zip(masked.places, token_ids, masked.parts[1:], strict=True):
            ids[place] = token_id
            piece = self._after(ids[max(0, place - 1) : place], token_id)
            if self._spells_spaces:
                text = (text.rstrip() if self._mask.lstrip else text) + (piece if text else piece.lstrip())
            elif piece[:1].isspace() or not place:  # a word of its own: the user's spaces stand
                text += piece.lstrip()
            else:
                text = text.rstrip() + piece
            text += after.lstrip() if self._mask.rstrip else after
        return text

    def text(self, token_id: int) -> str:
        """The text of a token alone."""
        return self._tokenizer.decode([token_id])

    def _after(self, before: list[int], token_id: int) -> str:
        """What a token adds to the text of those before it, its space included."""
        decode = partial(self._tokenizer.decode, skip_special=False)
        alone, both = decode(before), decode([*before, token_id])
        return both.removeprefix(alone) if both.startswith(alone) else decode([token_id])

    @cached_property
    def fillers(self) -> tuple[int, ...]:
        """The tokens that may fill a blank: all but control tokens, lowest id first."""
        named = {*self._tokenizer.vocabulary.values()}
        return tuple(sorted(named - self._tokenizer.special_ids - {self._mask_id}))

    @cached_property
    def _spells_spaces(self) -> bool:
        """Spaces are parts of tokens, not what the decoder sets between them."""
        return not isinstance(self._core.decoder, decoders.WordPiece)

    @cached_property
    def _core(self) -> tokenizers.Tokenizer:
        """The tokenizer with a mask that is found in a text, and control tokens that are not."""
        tree = self._tokenizer.definition()
        for token in tree["added_tokens"]:
            token["special"] &= token["id"] != self._mask_id
        with library_errors("the tokenizer"):
            core = tokenizers.Tokenizer.from_str(json.dumps(tree))
        core.encode_special_tokens = True
        return core
