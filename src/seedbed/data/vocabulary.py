"""The token ids that objectives insert, look for, or sample from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.text.special_form import NUM_SENTINELS, Needed
from seedbed.text.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "!", "?", "\n")
# The names of special tokens in messages.
NAMES = {
    "eos": "an end token",
    "mask": "a mask token",
    "sentinels": "sentinels <extra_id_0>, <extra_id_1> ...",
}
MIN_ADVICE = 512  # more than all bytes and the special tokens of any family


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """Ids by their role, None or empty if the tokenizer has none.

    `begin_ids` and `end_ids` are around a document; `begins_word` and `ends_sentence` (size,) are True for
    ids whose token does so; `decoder_start_id` is the first token of the decoder in an encoder-decoder, None
    for any other network. `family` is that of the network, if known.
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
    family: str | None = None

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, *, decoder_start_id: int | None = None, family: str | None = None
    ) -> Vocabulary:
        """The vocabulary of a tokenizer."""
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
            family=family,
        )

    @classmethod
    def stand_in(cls, size: int, *, decoder_start_id: int | None = None) -> Vocabulary:
        """A vocabulary for a plan without a tokenizer: it has a token for every role."""
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
        """The ids that end a text of a decoder: those after a document, or else the end token."""
        return self.end_ids or (() if self.eos_id is None else (self.eos_id,))

    @property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """All ids but those of special tokens."""
        return np.setdiff1d(np.arange(self.size), self.special_ids)

    def text(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of a record without the end token of its document."""
        return ids[:-1] if len(ids) and ids[-1] == self.eos_id else ids

    def require(self, needed: Collection[Needed], objective: str) -> None:
        """Raise ConfigError if the vocabulary lacks special tokens that an objective needs."""
        ids = {"eos": self.closing_ids, "sentinels": self.sentinel_ids}
        ids["mask"] = () if self.mask_id is None else (self.mask_id,)
        missing = [role for role in needed if not ids[role]]
        if missing:
            num = sum(NUM_SENTINELS if role == "sentinels" else 1 for role in missing)
            family = "" if self.family is None else f"--family {self.family} "
            raise ConfigError(
                f"the objective {objective} needs {' and '.join(NAMES[role] for role in missing)}, and this "
                "tokenizer has none; for a network from scratch train one that has (seedbed tokenizer DATA "
                f"{family}--objective {objective} --vocab-size {max(MIN_ADVICE, self.size + num)} --out "
                "FOLDER), or name the token that it has in tokenizer_config.json"
            )

    def decoder_start(self, objective: str) -> int:
        """The first token of the decoder; ConfigError if there is none."""
        if self.decoder_start_id is None:
            raise ConfigError(
                f"the objective {objective} trains an encoder-decoder, and no first token of its decoder is "
                "known; name an end or a padding token in tokenizer_config.json"
            )
        return self.decoder_start_id
