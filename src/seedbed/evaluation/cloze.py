"""The share of hidden tokens that a network predicts from the context that its architecture can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from seedbed.base.errors import UsageError
from seedbed.data.batch import Example, collate, longest_first
from seedbed.data.objective import target_logits
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.family import Config, Network

BATCH_ROWS = 32


class Window(NamedTuple):
    """A span of a text (n,) whose tokens start to start + length are hidden; start is 1 or more."""

    ids: Sequence[int]
    start: int
    length: int


def cloze_example(vocabulary: Vocabulary, config: Config, window: Window) -> Example:
    """The inputs of a network for a window, and the places where it predicts the hidden tokens.

    A masked encoder reads a mask in place of each hidden token. The encoder of an encoder-decoder reads one
    sentinel or, without sentinels, one mask in place of all; its decoder reads the hidden tokens before each,
    without sentinels after the text before them. A decoder reads all tokens before each.
    """
    ids = np.asarray(window.ids, dtype=np.int64)
    start, end = window.start, window.start + window.length
    begin, close = np.array(vocabulary.begin_ids, np.int64), np.array(vocabulary.end_ids, np.int64)
    hidden = ids[start:end]
    if config.shape == "decoder":
        inputs = np.concatenate([begin, ids[: end - 1]])
        return Example(inputs, hidden, len(inputs) - window.length + np.arange(window.length))
    if config.shape == "encoder":
        if vocabulary.mask_id is None or config.head.kind != "mlm":
            raise UsageError("a cloze needs a masked model with its head and its mask token")
        masks = np.full(window.length, vocabulary.mask_id)
        inputs = np.concatenate([begin, ids[:start], masks, ids[end:], close])
        return Example(inputs, hidden, len(begin) + np.arange(start, end))
    assert vocabulary.decoder_start_id is not None
    spans = bool(vocabulary.sentinel_ids)
    gap = vocabulary.sentinel_ids[0] if spans else vocabulary.mask_id
    if gap is None:
        raise UsageError("a cloze needs a tokenizer with sentinels or a mask token")
    source = np.concatenate([begin, ids[:start], [gap], ids[end:], close])
    before = [gap] if spans else [*begin, *ids[:start]]
    inputs = np.concatenate([[vocabulary.decoder_start_id], before, hidden[:-1]]).astype(np.int64)
    return Example(inputs, hidden, len(inputs) - window.length + np.arange(window.length), source)


@torch.inference_mode()
def cloze_hits(module: Network, vocabulary: Vocabulary, windows: Sequence[Window]) -> torch.Tensor:
    """The share of hidden tokens that are the most likely of the whole vocabulary, per window (windows,).

    The windows come in the order of the rows, longest first. Each hidden token is predicted with those before
    it known, except by a masked encoder, which reads none of them.
    """
    device = module.device
    examples = longest_first([cloze_example(vocabulary, module.config, window) for window in windows])
    shares: list[float] = []
    for first in range(0, len(examples), BATCH_ROWS):
        some = examples[first : first + BATCH_ROWS]
        batch = collate(some).to(device)
        right = (target_logits(module, batch).argmax(-1) == batch.targets).float()
        shares += [part.mean().item() for part in right.split([len(one.targets) for one in some])]
    return torch.tensor(shares)
