"""What an objective knows of the token ids that it draws from, puts in and looks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.text.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "!", "?", "\n")
NUM_SENTINELS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """Ids with a role, None or empty where the tokenizer has none.

    `begin_ids` and `end_ids` stand around a document; `begins_word` and `ends_sentence` (size,) tell of each
    id whether its token does; `decoder_start_id` is what a decoder reads first in an encoder-decoder, and
    None for any other network.
    """

    size: int
    special_ids: NDArray[np.int64]
    eos_id: int | None
    mask_id: int | None
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    sentinel_ids: tuple[int, ...]
    begins_word: NDArray[np.bool_]
    ends_sentence: NDArray[np.bool_]
    decoder_start_id: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, decoder_start_id: int | None = None) -> Vocabulary:
        """A tokenizer's."""
        size = tokenizer.vocab_size
        begin_ids, end_ids = tokenizer.around_ids
        named = set(tokenizer.vocabulary.values())
        texts = ((i, tokenizer.token(i).rstrip(" ")) for i in sorted(named - tokenizer.special_ids))
        ends = np.zeros(size, dtype=np.bool_)
        ends[[i for i, text in texts if text.endswith(SENTENCE_ENDS)]] = True
        return cls(
            size=size,
            special_ids=np.array(sorted(tokenizer.special_ids), dtype=np.int64),
            eos_id=tokenizer.eos_id,
            mask_id=tokenizer.mask_id,
            begin_ids=begin_ids,
            end_ids=end_ids,
            sentinel_ids=tokenizer.sentinel_ids,
            begins_word=tokenizer.begins_word,
            ends_sentence=ends,
            decoder_start_id=decoder_start_id,
        )

    @classmethod
    def stand_in(cls, size: int, *, decoder_start_id: int | None = None) -> Vocabulary:
        """One for a plan, where nothing is known of the tokenizer: it has a token for every role."""
        ids = np.arange(size)
        return cls(
            size=size,
            special_ids=ids[:1],
            eos_id=0,
            mask_id=0,
            begin_ids=(0,),
            end_ids=(0,),
            sentinel_ids=(0,) * NUM_SENTINELS,
            begins_word=ids % 2 == 0,
            ends_sentence=ids % 20 == 0,
            decoder_start_id=decoder_start_id,
        )

    @property
    def closing_ids(self) -> tuple[int, ...]:
        """What ends a text that a decoder writes: what stands behind a document, else the end token."""
        return self.end_ids or (() if self.eos_id is None else (self.eos_id,))

    @property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """All ids but those of control tokens."""
        return np.setdiff1d(np.arange(self.size), self.special_ids)

    def text(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """A record's ids without the end of its document."""
        return ids[:-1] if len(ids) and ids[-1] == self.eos_id else ids

    def needed(self, role: str, objective: str) -> int:
        """The id of `mask` or `decoder_start`; a ConfigError says how to come by a missing one."""
        token_id: int | None = getattr(self, f"{role}_id")
        if token_id is None:
            raise ConfigError(
                f"the objective {objective} needs a {role} token, and this tokenizer has none; train one for "
                "the family (seedbed tokenizer DATA --family FAMILY), or name it in tokenizer_config.json"
            )
        return token_id
