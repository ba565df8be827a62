"""A vocabulary and networks small enough for every objective to be tried on each of its families."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from seedbed.data.objective import OBJECTIVES, Objective
from seedbed.data.records import Record, RecordSource
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.family import Network
from seedbed.models.network import FAMILIES, build, family, initialize

SIZE, TEXT = 60, 40  # ids of text are below TEXT
EOS, MASK, BEGIN, END, START = 40, 41, 42, 43, 44
SENTINELS = tuple(range(59, 44, -1))
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
    }
    return Vocabulary(**fields | changes)


def objective(name: str, *, shape: str | None = None, **settings: Any) -> Objective:
    """An objective over the vocabulary, for networks of a shape that it trains."""
    kind = OBJECTIVES.get(name)
    shape = shape or kind.shapes[-1]
    return kind(vocabulary(shape=shape), kind.settings_class(**settings))


def fitting(name: str) -> list[str]:
    """The families that an objective trains as they are."""
    kind = OBJECTIVES.get(name)
    sized = {each: family(each).sized(64, 1) for each in FAMILIES.names()}
    return [
        n for n, config in sized.items() if config.shape in kind.shapes and config.head.kind in kind.heads
    ]


def network(name: str, *, num_layers: int = 2, seed: int = 3, dropout: float = 0.0) -> Network:
    """A small network of a family."""
    config = replace(family(name).sized(32, num_layers), vocab_size=SIZE, dropout=dropout)
    if config.shape != "decoder" or config.max_positions is not None:
        config = replace(config, max_positions=64)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(seed))
    return module


def records(kind: type[Objective], num: int, *, seed: int = 5) -> list[Record]:
    """Records of 3 to 20 tokens of text; every other one ends its document, labelled ones have answers."""
    draw = np.random.default_rng(seed)
    found = []
    for i, length in enumerate(draw.integers(3, 21, num)):
        ids = draw.integers(0, TEXT, length)
        labelled = kind.learns_from != "text"
        answer = draw.integers(0, TEXT, draw.integers(1, 9)) if labelled else None
        ids = np.append(ids, EOS) if i % 2 and not labelled else ids
        found.append(Record(ids.astype(np.int64), (0, i), answer))
    return found


def source(kind: type[Objective], num: int) -> RecordSource:
    """The same records as a source."""
    found = records(kind, num)
    answers = [r.answer.tolist() for r in found if r.answer is not None]
    return RecordSource([r.ids.tolist() for r in found], answers=answers or None)
