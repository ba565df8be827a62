"""Training of a tokenizer on a corpus, and inspection of a tokenizer on a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import BundleError
from seedbed.base.notices import Notify, silent
from seedbed.base.signals import StopSignals
from seedbed.data.corpus import Corpus
from seedbed.data.forms import LearnsFrom
from seedbed.data.objective import OBJECTIVES
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings
from seedbed.data.shown import Shown, ShownToken, example_of_text, show_tokens
from seedbed.hub.base import Base
from seedbed.hub.weight_files import CONFIG
from seedbed.models.network import family as named_family
from seedbed.runs.network import require_matching_family
from seedbed.runs.start import Start
from seedbed.text.special_form import form_of_kind
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer


class TextToken(NamedTuple):
    """One token of a text: its id, its vocabulary entry, its bytes (byte-level only), its display form."""

    id: int
    token: str
    bytes: bytes | None
    shown: ShownToken


def train_tokenizer_from(
    data: str,
    *,
    out: Path,
    kind: str | None = None,
    family: str | None = None,
    objective: str | None = None,
    vocab_size: int = 4096,
    whole: bool = False,
    force: bool = False,
    notify: Notify = silent,
) -> dict[str, Any]:
    """Train a tokenizer on a corpus, write it to the folder `out`, and return its kind and size.

    It is trained on the training documents of a run on `data`, without the held-out ones; `whole`: on all
    documents. The family sets its special tokens and its default kind; without a family the kind sets them.
    An objective adds the special tokens that it needs, and selects the records to train on. Only with `force`
    is another tokenizer in `out` replaced, or a model's.
    """
    replaces = "choose a new folder, or replace its tokenizer with --force (force=True in Python)"
    if not force and (out / CONFIG).exists():
        raise BundleError(f"{out} contains a model; {replaces}")
    form = form_of_kind(kind) if family is None else named_family(family).special
    learns_from: LearnsFrom = "text"
    if objective is not None:
        if family is not None:
            require_matching_family(named_family(family).sized(64, 1), objective)
        chosen = OBJECTIVES.get(objective)
        form, learns_from = form.having(chosen.needs), chosen.learns_from
    settings = DataSettings(train=data)
    if whole:
        settings = replace(settings, validation_fraction=0)
    with StopSignals("nothing is written"):
        notify(f"training a tokenizer on {data}")
        settings, learns_from = recognised(settings, None if objective is None else learns_from)
        corpus = Corpus(settings, learns_from=learns_from)
        texts = corpus.training_texts()
        tokenizer = train_tokenizer(texts, kind, vocab_size=vocab_size, special=form)
        notify(str(corpus.reading))
    if not force and Tokenizer.is_in(out) and Tokenizer.load(out).fingerprint != tokenizer.fingerprint:
        raise BundleError(f"{out} contains another tokenizer; {replaces}")
    tokenizer.save(out)
    sizes = {"vocab_size": tokenizer.vocab_size, "asked": vocab_size}
    return {"kind": tokenizer.kind, **sizes, "folder": str(out)}


def inspect(model: str | Path, text: str) -> list[TextToken]:
    """Encode a text with the tokenizer of a model or tokenizer folder, and return its tokens."""
    tokenizer = _tokenizer(model)
    ids = tokenizer.encode(text)
    shown = show_tokens(ids, tokenizer)
    return [
        TextToken(i, tokenizer.token(i), tokenizer.token_bytes(i), s) for i, s in zip(ids, shown, strict=True)
    ]


def shown_example(model: str | Path, text: str, objective: str, *, seed: int = 0) -> Shown:
    """Return the training example that an objective makes of a text, with the tokenizer of a folder."""
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
