"""The control tokens that go with a family of models, as its published tokenizers have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from seedbed.text.tokenizer import END_OF_TEXT


@dataclass(frozen=True, kw_only=True)
class SpecialForm:
    """Control tokens with their roles, what stands around a text, and the kind of tokenizer beside them.

    `tokens` have the ids from 0 on in this order; if `last`, they follow the pieces. `roles` says which of
    them is `eos`, `pad`, `mask` and so on. `single` and `pair` are the templates of one text and of two in
    the library's terms, none where nothing stands around them. The sentinels end the vocabulary, the first
    of them has the highest id (Raffel et al. 2020).
    """

    kind: str = "bpe"
    tokens: tuple[str, ...]
    roles: Mapping[str, str] = field(default_factory=dict)
    last: bool = False
    single: str = ""
    pair: str = ""
    num_sentinels: int = 0

    @property
    def first(self) -> tuple[str, ...]:
        """The control tokens that stand before the pieces."""
        return () if self.last else self.tokens

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The names of the sentinels in the order of their ids."""
        return tuple(f"<extra_id_{i}>" for i in reversed(range(self.num_sentinels)))

    @property
    def num_tokens(self) -> int:
        """Control tokens and sentinels."""
        return len(self.tokens) + self.num_sentinels

    def add_to(self, core: tokenizers.Tokenizer, *, mask_joins: bool) -> None:
        """Make the tokens control tokens of a core whose vocabulary has those that stand `first`.

        With `mask_joins` the mask takes the blank before it, as RoBERTa's.
        """
        joins = self.roles.get("mask") if mask_joins else None
        core.add_special_tokens(
            [AddedToken(t, special=True, normalized=False, lstrip=t == joins) for t in self.tokens]
        )
        core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in self.sentinels])
        if self.single:
            ids = [(t, core.token_to_id(t)) for t in self.tokens if t in self.single]
            core.post_processor = processors.TemplateProcessing(
                single=self.single, pair=self.pair, special_tokens=ids
            )

    def config(self) -> dict[str, Any]:
        """What tokenizer_config.json says of the tokens."""
        values: dict[str, Any] = {f"{role}_token": token for role, token in self.roles.items()}
        if self.sentinels:
            values["extra_special_tokens"] = list(self.sentinels)
        if ":1" in self.pair:  # transformers gives the segments of two texts only where they are named
            values["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        return values


def decoder_form(*tokens: str) -> SpecialForm:
    """Nothing around a text, and control tokens behind the pieces, the first of which ends documents."""
    return SpecialForm(tokens=tokens, roles={"eos": tokens[0]} if tokens else {}, last=True)


DECODER = decoder_form(END_OF_TEXT)
BERT = SpecialForm(
    kind="wordpiece",
    tokens=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    roles={name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    single="[CLS]:0 $A:0 [SEP]:0",
    pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
)
_ENDS = {"eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
ROBERTA = SpecialForm(
    tokens=("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    roles=_ENDS | {"bos": "<s>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)
MARIAN = SpecialForm(tokens=("<pad>", "</s>", "<unk>"), roles=_ENDS, single="$A </s>", pair="$A </s> $B </s>")
T5 = SpecialForm(
    kind="unigram",
    tokens=MARIAN.tokens,
    roles=_ENDS,
    single=MARIAN.single,
    pair=MARIAN.pair,
    num_sentinels=100,
)
# The form that a kind is trained with where no family is named.
FORM_OF_KIND = {"wordpiece": BERT, "unigram": T5}
