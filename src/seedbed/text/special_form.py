"""The special tokens that go with a family of models, as its published tokenizers have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from seedbed.text.tokenizer import END_OF_TEXT

NUM_SENTINELS = 100
# In generation_config.json: how the model was trained to fill blanks. "mask": one token for every blank;
# "sentinels": a numbered token for each; else a prompt with BEFORE and AFTER in the place of the texts before
# and after its only blank, such as "<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>".
BLANK_KEY = "seedbed_blank"
BEFORE, AFTER = "{before}", "{after}"
# The special tokens that an objective may need by their role; it names any other by its text. NAMES has the
# texts that published tokenizers use, for a family that lacks the role.
ROLES = ("eos", "mask", "sentinels")
NAMES = {"eos": END_OF_TEXT, "mask": "<mask>"}


@dataclass(frozen=True, kw_only=True)
class SpecialForm:
    """Special tokens with their roles, the templates around a text, and the tokenizer's kind.

    The tokens of `first` have the ids from 0 on; those of `behind` and then of `own`, which an objective
    named by their texts, follow the rest of the vocabulary. `roles` maps `eos`, `pad`, `mask` and so on to a
    token. `single` and `pair` are the templates of one text and of two in the syntax of the `tokenizers`
    library. The sentinels end the vocabulary, the first with the highest id (Raffel et al. 2020).
    """

    kind: str = "bpe"
    first: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    single: str = ""
    pair: str = ""
    num_sentinels: int = 0
    sentinels_join: bool = True  # take the space before them, as masks do: CodeT5's; T5's own do not

    @property
    def tokens(self) -> tuple[str, ...]:
        """The special tokens without the sentinels."""
        return (*self.first, *self.behind, *self.own)

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The names of the sentinels in the order of their ids."""
        return tuple(f"<extra_id_{i}>" for i in reversed(range(self.num_sentinels)))

    @property
    def num_tokens(self) -> int:
        """The number of special tokens, sentinels included."""
        return len(self.tokens) + self.num_sentinels

    def having(self, needed: Collection[str]) -> SpecialForm:
        """Return the form with every token `needed`, each a role of ROLES or a text; old ids stay."""
        missing = {role: name for role, name in NAMES.items() if role in needed and role not in self.roles}
        own = [token for token in needed if token not in (*ROLES, *self.tokens)]
        return replace(
            self,
            behind=(*self.behind, *missing.values()),
            own=(*self.own, *own),
            roles=dict(self.roles) | missing,
            num_sentinels=self.num_sentinels or (NUM_SENTINELS if "sentinels" in needed else 0),
        )

    def add_to(self, core: tokenizers.Tokenizer, *, joins: bool) -> None:
        """Add the tokens to a core whose vocabulary has those of `first`.

        With `joins` a mask or sentinel takes the space before it, as RoBERTa's mask does.
        """
        joining = {self.roles.get("mask"), *(self.sentinels if self.sentinels_join else ())} if joins else {}
        tokens = (*self.tokens, *self.sentinels)
        core.add_special_tokens([AddedToken(t, normalized=False, lstrip=t in joining) for t in tokens])
        if self.single:
            ids = [(t, core.token_to_id(t)) for t in self.tokens if t in self.single]
            core.post_processor = processors.TemplateProcessing(
                single=self.single, pair=self.pair, special_tokens=ids
            )

    def config(self) -> dict[str, Any]:
        """Return the entries of tokenizer_config.json."""
        values: dict[str, Any] = {f"{role}_token": token for role, token in self.roles.items()}
        if extra := [*self.own, *self.sentinels]:
            values["extra_special_tokens"] = extra
        if ":1" in self.pair:  # transformers returns segments only where they are named
            values["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        return values


def decoder_form(*tokens: str) -> SpecialForm:
    """Return a form with nothing around a text, whose first token ends documents."""
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
T5 = replace(MARIAN, kind="unigram", num_sentinels=NUM_SENTINELS, sentinels_join=False)


def form_of_kind(kind: str | None) -> SpecialForm:
    """Return the form of a tokenizer of this kind that is trained for no family."""
    return {"wordpiece": BERT, "unigram": T5}.get(kind or "", DECODER)
