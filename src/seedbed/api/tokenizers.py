"""Tokenizers from a corpus, and what a tokenizer does to a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import BundleError
from seedbed.data.corpora import LearnsFrom
from seedbed.data.objective import OBJECTIVES
from seedbed.data.prepare import DataSettings, training_texts
from seedbed.data.shown import Shown, ShownToken, show_tokens
from seedbed.hub.base import Base
from seedbed.hub.weight_files import CONFIG
from seedbed.models.network import family as named_family
from seedbed.runs.examples import example_of_text
from seedbed.runs.objectives import require_matching_family
from seedbed.runs.start import Start
from seedbed.text.special_form import form_of_kind
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer


class Piece(NamedTuple):
    """One token of a text: its id, how it is shown, its bytes where the tokenizer works on bytes."""

    id: int
    token: str
    bytes: bytes | None


def train_tokenizer_from(
    data: str,
    *,
    out: Path,
    kind: str | None = None,
    family: str | None = None,
    objective: str | None = None,
    vocab_size: int = 4096,
    text_field: str = "text",
    whole: bool = False,
) -> dict[str, Any]:
    """Train a tokenizer on a corpus, write it to the folder `out`, and say what it is.

    It learns from the documents that a training on `data` learns from, never from those that it holds out;
    `whole`: from all of them, for a tokenizer alone. It has the special tokens of the family, and its kind
    where none is given; without a family, those that go with the kind. For an objective it has
    those that it needs, too, and learns from the records that the objective learns from.
    """
    form = form_of_kind(kind) if family is None else named_family(family).special
    learns_from: LearnsFrom = "text"
    if objective is not None:
        if family is not None:
            require_matching_family(named_family(family).sized(64, 1), objective)
        chosen = OBJECTIVES.get(objective)
        form, learns_from = form.having(chosen.needs), chosen.learns_from
    settings = DataSettings(train=data, text_field=text_field)
    if whole:
        settings = replace(settings, validation_fraction=0)
    texts = training_texts(settings, learns_from=learns_from)
    tokenizer = train_tokenizer(texts, kind, vocab_size=vocab_size, special=form)
    tokenizer.save(out)
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "asked": vocab_size,
        "folder": str(out),
    }


def inspect(model: str | Path, text: str) -> list[Piece]:
    """The tokens of a text, one after the other, by the tokenizer of a model's or a tokenizer's folder."""
    tokenizer = _tokenizer(model)
    return [Piece(i, tokenizer.token(i), tokenizer.token_bytes(i)) for i in tokenizer.encode(text)]


def shown_tokens(model: str | Path, text: str) -> list[ShownToken]:
    """The same tokens as they are shown: which are text, and which are unknown."""
    tokenizer = _tokenizer(model)
    return show_tokens(tokenizer.encode(text), tokenizer)


def shown_example(model: str | Path, text: str, objective: str, *, seed: int = 0) -> Shown:
    """What an objective makes of a text, by the tokenizer of a model's or a tokenizer's folder."""
    if Tokenizer.is_in(Path(model)) and not (Path(model) / CONFIG).exists():
        return example_of_text(text, Tokenizer.load(Path(model)), objective, seed=seed, start_id=None)
    base = Base.open(model)
    start_id = Start(base=base).decoder_start_id(base.config)
    return example_of_text(text, _own(base), objective, seed=seed, start_id=start_id)


def _tokenizer(model: str | Path) -> Tokenizer:
    path = Path(model)
    return Tokenizer.load(path) if Tokenizer.is_in(path) else _own(Base.open(model))


def _own(base: Base) -> Tokenizer:
    if base.tokenizer is None:
        raise BundleError(f"{base.name} has no tokenizer; give a model or a folder that has one")
    return base.tokenizer
