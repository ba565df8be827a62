"""What an objective knows of the token ids that it draws from, puts in and looks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.text.special_form import NUM_SENTINELS, ROLES
from seedbed.text.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "!", "?", "\n")
# What a message calls the special tokens that an objective needs.
CALLED = {
    "eos": "an end token",
    "mask": "a mask token",
    "sentinels": "sentinels <extra_id_0>, <extra_id_1> ...",
}
LEAST_ADVISED = 512  # tokens: those of all bytes and the special ones of any family are fewer


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """Ids with a role, None or empty where the tokenizer has none.

    `begin_ids` and `end_ids` stand around a document; `begins_word` and `ends_sentence` (size,) tell of each
    id whether its token does; `decoder_start_id` is what a decoder reads first in an encoder-decoder, and
    None for any other network. `family` is the network's, where one is known.
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
            family=family,
            special_tokens={t.content: i for i, t in tokenizer.added_tokens.items() if t.special},
        )

    @classmethod
    def stand_in(
        cls, size: int, *, needs: Collection[str] = (), decoder_start_id: int | None = None
    ) -> Vocabulary:
        """Return one for a plan without a tokenizer: it has a token for every role and for all of `needs`."""
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
        """What ends a text that a decoder writes: what stands behind a document, else the end token."""
        return self.end_ids or (() if self.eos_id is None else (self.eos_id,))

    @property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """All ids but those of control tokens."""
        return np.setdiff1d(np.arange(self.size), self.special_ids)

    def text(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """A record's ids without the end of its document."""
        return ids[:-1] if len(ids) and ids[-1] == self.eos_id else ids

    def require(self, needed: Collection[str], objective: str) -> None:
        """Raise a ConfigError where special tokens are missing that an objective needs."""
        found = {"eos": self.closing_ids, "sentinels": self.sentinel_ids}
        found["mask"] = () if self.mask_id is None else (self.mask_id,)
        missing = [each for each in needed if not found.get(each, each in self.special_tokens)]
        if missing:
            num = sum(NUM_SENTINELS if each == "sentinels" else 1 for each in missing)
            has_role = bool({*missing} & {*ROLES})
            rename = ", or name the token that it has in tokenizer_config.json" if has_role else ""
            names = " and ".join(CALLED.get(each, each) for each in missing)
            family = "" if self.family is None else f"--family {self.family} "
            raise ConfigError(
                f"the objective {objective} needs {names}, and this tokenizer has none; for a network from "
                "scratch train one that has (seedbed tokenizer DATA "
                f"{family}--objective {objective} --vocab-size {max(LEAST_ADVISED, self.size + num)} --out "
                f"FOLDER){rename}"
            )

    def decoder_start(self, objective: str) -> int:
        """What a decoder reads first; a ConfigError where no decoder reads after an encoder."""
        if self.decoder_start_id is None:
            raise ConfigError(
                f"the objective {objective} trains an encoder-decoder, and nothing says what its decoder "
                "reads first; name an end or a padding token in tokenizer_config.json"
            )
        return self.decoder_start_id
