"""The control tokens that go with a family of models, as its published tokenizers have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tokenizers
from tokenizers import AddedToken, processors

from seedbed.text.tokenizer import END_OF_TEXT

NUM_SENTINELS = 100
Blank = Literal["mask", "sentinels"]  # what stands for a gap in a text: one token for all, or numbered ones
BLANK_KEY = "seedbed_blank"  # in generation_config.json: as which of them the model has learnt to read gaps
Needed = Literal["eos", Blank]  # the special tokens that an objective may ask for
# The tokens that a family lacks where an objective needs them, as published tokenizers name them.
NAMES = {"eos": END_OF_TEXT, "mask": "<mask>"}


@dataclass(frozen=True, kw_only=True)
class SpecialForm:
    """Special tokens with their roles, what stands around a text, and the kind of tokenizer beside them.

    Those of `first` have the ids from 0 on in this order, those of `behind` follow the vocabulary's other
    tokens. `roles` says which of them is `eos`, `pad`, `mask` and so on. `single` and `pair` are the
    templates of one text and of two in the library's terms, none where nothing stands around them. The
    sentinels end the vocabulary, the first of them has the highest id (Raffel et al. 2020).
    """

    kind: str = "bpe"
    first: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    single: str = ""
    pair: str = ""
    num_sentinels: int = 0
    sentinels_join: bool = True  # with the blank before them, as masks do: CodeT5's; T5's own do not

    @property
    def tokens(self) -> tuple[str, ...]:
        """The special tokens but the sentinels."""
        return (*self.first, *self.behind)

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The names of the sentinels in the order of their ids."""
        return tuple(f"<extra_id_{i}>" for i in reversed(range(self.num_sentinels)))

    @property
    def num_tokens(self) -> int:
        """Special tokens, sentinels included."""
        return len(self.tokens) + self.num_sentinels

    def having(self, needed: Collection[Needed]) -> SpecialForm:
        """The form with the tokens that it lacks of those needed; the ids of `first` and sentinels stay."""
        missing = [role for role in needed if role != "sentinels" and role not in self.roles]
        return replace(
            self,
            behind=(*self.behind, *(NAMES[role] for role in missing)),
            roles=dict(self.roles) | {role: NAMES[role] for role in missing},
            num_sentinels=self.num_sentinels or (NUM_SENTINELS if "sentinels" in needed else 0),
        )

    def add_to(self, core: tokenizers.Tokenizer, *, joins: bool) -> None:
        """Make the tokens special tokens of a core whose vocabulary has those of `first`.

        With `joins` what stands for a gap takes the blank before it, as RoBERTa's mask.
        """
        joining = {self.roles.get("mask"), *(self.sentinels if self.sentinels_join else ())} if joins else {}
        core.add_special_tokens(
            [
                AddedToken(t, special=True, normalized=False, lstrip=t in joining)
                for t in (*self.tokens, *self.sentinels)
            ]
        )
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
    """Nothing around a text, and special tokens behind the others, the first of which ends documents."""
    return SpecialForm(behind=tokens, roles={"eos": tokens[0]} if tokens else {})


DECODER = decoder_form(END_OF_TEXT)
BERT = SpecialForm(
    kind="wordpiece",
    first=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    roles={name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    single="[CLS]:0 $A:0 [SEP]:0",
    pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
)
_ENDS = {"eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
ROBERTA = SpecialForm(
    first=("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    roles=_ENDS | {"bos": "<s>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)
MARIAN = SpecialForm(first=("<pad>", "</s>", "<unk>"), roles=_ENDS, single="$A </s>", pair="$A </s> $B </s>")
T5 = SpecialForm(
    kind="unigram",
    first=MARIAN.first,
    roles=_ENDS,
    single=MARIAN.single,
    pair=MARIAN.pair,
    num_sentinels=NUM_SENTINELS,
    sentinels_join=False,
)


def form_of_kind(kind: str | None) -> SpecialForm:
    """The form that a kind is trained with where no family is named."""
    return {"wordpiece": BERT, "unigram": T5}.get(kind or "", DECODER)
