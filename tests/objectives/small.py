"""A vocabulary and networks small enough for every objective to be tried on each of its families."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seedbed.base.errors import ConfigError
from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record, RecordSource
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.family import Network
from seedbed.models.network import FAMILIES, build, family, initialize
from seedbed.runs.network import require_matching_family
from seedbed.text.special_form import ROLES

SIZE, TEXT = 66, 40  # ids of text are below TEXT
EOS, MASK, BEGIN, END, START = 40, 41, 42, 43, 44
SENTINELS = tuple(range(59, 44, -1))
OWN = range(60, SIZE)  # special tokens of an objective's own
LABELS = ("low", "middle", "high")
NAMES = OBJECTIVES.names()


def vocabulary(*, shape: str = "encoder-decoder", **changes: Any) -> Vocabulary:
    """Ids below TEXT are text, every third begins a word, each seventh ends a sentence."""
    ids = np.arange(SIZE)
    fields: dict[str, Any] = {
        "size": SIZE,
        "special_ids": ids[TEXT:],
        "eos_id": EOS,
        "mask_id": MASK,
        "begin_ids": (BEGIN,),
        "end_ids": (END,),
        "sentinel_ids": SENTINELS,
        "begins_word": (ids % 3 == 0) | (ids >= TEXT),
        "ends_sentence": (ids % 7 == 0) & (ids < TEXT),
        "decoder_start_id": START if shape == "encoder-decoder" else None,
        "special_tokens": dict(zip(own_tokens(), OWN, strict=False)),
    }
    return Vocabulary(**fields | changes)


def own_tokens() -> list[str]:
    """The special tokens that objectives name by their texts."""
    needs = [need for name in NAMES for need in OBJECTIVES.get(name).needs if need not in ROLES]
    assert len(needs) <= len(OWN)
    return needs


def objective(name: str, *, shape: str | None = None, **settings: Any) -> Objective:
    """An objective over the vocabulary, for networks of a shape that it trains."""
    kind = OBJECTIVES.get(name)
    shape = shape or kind.shapes[-1]
    return kind(vocabulary(shape=shape), kind.settings_class(**settings))


def fitting(name: str) -> list[str]:
    """The families that an objective trains: as they are, or with the head that it puts on them."""
    found = []
    for each in FAMILIES.names():
        with suppress(ConfigError):
            require_matching_family(family(each).sized(64, 1), name)
            found.append(each)
    return found


def network(
    name: str,
    objective: str | None = None,
    *,
    num_layers: int = 2,
    seed: int = 3,
    dropout: float = 0.0,
    vocab_size: int = SIZE,
) -> Network:
    """A small network of a family, with the head that an objective puts on it."""
    config: Any = replace(family(name).sized(32, num_layers), vocab_size=vocab_size, dropout=dropout)
    if config.shape != "decoder" or config.max_positions is not None:
        config = replace(config, max_positions=64)
    head_kind = None if objective is None else OBJECTIVES.get(objective).head_kind
    if head_kind is not None:
        config = replace(config, head=family(name).labelled(head_kind, LABELS))
    module = build(config)
    initialize(module, torch.Generator().manual_seed(seed))
    return module


def records(kind: type[Objective], num: int, *, seed: int = 5) -> list[Record]:
    """Records of 3 to 20 tokens of text; every other one ends its document, labelled ones have answers.

    The label of a text is that of its first token, a tag that of its own token, three in four of which begin
    a word. The answer in a conversation is its second half.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i, length in enumerate(rng.integers(3, 21, num)):
        ids = rng.integers(0, TEXT, length)
        answer = rng.integers(0, TEXT, rng.integers(1, 9)) if kind.learns_from == "pairs" else None
        if kind.learns_from == "labels":
            answer = 1 + ids[:1] % len(LABELS)
        elif kind.learns_from == "tags":
            answer = (1 + ids % len(LABELS)) * (ids % 4 > 0)
            answer[0] = 1 + ids[0] % len(LABELS)
        elif kind.learns_from == "conversations":
            answer = (np.arange(length) > length // 2).astype(np.int64)
        ids = np.append(ids, EOS) if i % 2 and kind.learns_from == "text" else ids
        found.append(Record(ids.astype(np.int64), (0, i), answer))
    return found


def source(kind: type[Objective], num: int) -> RecordSource:
    """The same records as a source."""
    found = records(kind, num)
    answers = [r.answer.tolist() for r in found if r.answer is not None]
    return RecordSource([r.ids.tolist() for r in found], answers=answers or None)
