"""The token ids that objectives insert, look for, or sample from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.text.special_form import NUM_SENTINELS, ROLES
from seedbed.text.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "!", "?", "\n")
# The names of special tokens in messages.
NAMES = {
    "eos": "an end token",
    "mask": "a mask token",
    "sentinels": "sentinels <extra_id_0>, <extra_id_1> ...",
}
MIN_ADVISED_SIZE = 512  # more than all bytes and the special tokens of any family


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """Ids by their role, None or empty if the tokenizer has none.

    `begin_ids` and `end_ids` are around a document; `begins_word` and `ends_sentence` (size,) are True for
    ids whose token does so; `decoder_start_id` is the first token of the decoder in an encoder-decoder, None
    for any other network. `special_tokens` has the id of every special token by its text. `family` is that of
    the network, if known.
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
    special_tokens: Mapping[str, int] = field(default_factory=dict)

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
            special_tokens={t.content: i for i, t in tokenizer.added_tokens.items() if t.special},
        )

    @classmethod
    def stand_in(
        cls, size: int, *, needs: Collection[str] = (), decoder_start_id: int | None = None
    ) -> Vocabulary:
        """A vocabulary for a plan without a tokenizer: it has a token for every role and all of `needs`."""
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
            special_tokens=dict.fromkeys(needs, 0),
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

    def require(self, needed: Collection[str], objective: str) -> None:
        """Raise ConfigError if the vocabulary lacks special tokens that an objective needs."""
        found = {"eos": self.closing_ids, "sentinels": self.sentinel_ids}
        found["mask"] = () if self.mask_id is None else (self.mask_id,)
        missing = [each for each in needed if not found.get(each, each in self.special_tokens)]
        if missing:
            num = sum(NUM_SENTINELS if each == "sentinels" else 1 for each in missing)
            has_role = bool({*missing} & {*ROLES})
            rename = ", or name the token that it has in tokenizer_config.json" if has_role else ""
            names = " and ".join(NAMES.get(each, each) for each in missing)
            family = "" if self.family is None else f"--family {self.family} "
            raise ConfigError(
                f"the objective {objective} needs {names}, and this tokenizer has none; for a network from "
                f"scratch train one that has (seedbed tokenizer DATA {family}--objective {objective} "
                f"--vocab-size {max(MIN_ADVISED_SIZE, self.size + num)} --out FOLDER){rename}"
            )

    def decoder_start(self, objective: str) -> int:
        """The first token of the decoder; ConfigError if there is none."""
        if self.decoder_start_id is None:
            raise ConfigError(
                f"the objective {objective} trains an encoder-decoder, and no first token of its decoder is "
                "known; name an end or a padding token in tokenizer_config.json"
            )
        return self.decoder_start_id
