"""Hidden tokens, and what a network predicts for them from the context that its architecture can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seedbed.data.batch import Example, collate
from seedbed.data.objective import target_logits
from seedbed.data.vocabulary import Vocabulary
from seedbed.generation.language_model import LanguageModel
from seedbed.models.family import Config, Network
from seedbed.models.network import decoder_start_id

WINDOW_TOKENS, NUM_WINDOWS, BATCH_ROWS = 64, 1000, 32


def cloze_example(vocabulary: Vocabulary, config: Config, ids: Sequence[int], place: int) -> Example:
    """The inputs of a network for a text (n,) whose token at `place`, 1 or more, is hidden.

    A masked encoder reads a mask in its place. The encoder of an encoder-decoder reads a sentinel there, and
    its decoder the sentinel; without sentinels a mask, and the text before. A decoder reads the text before.
    """
    before, after = [*vocabulary.begin_ids, *ids[:place]], [*ids[place + 1 :], *vocabulary.end_ids]
    sentinels = vocabulary.sentinel_ids[:1] if config.shape == "encoder-decoder" else ()
    both_sides: list[Any] = [*before, *(sentinels or [vocabulary.mask_id]), *after]
    inputs: list[Any] = before
    at, source = len(before) - 1, None
    if config.shape == "encoder":
        inputs, at = both_sides, len(before)
    elif config.shape == "encoder-decoder":
        inputs, source = [vocabulary.decoder_start_id, *(sentinels or before)], np.array(both_sides)
        at = len(inputs) - 1
    return Example(np.array(inputs), np.array([ids[place]]), np.array([at]), source)


def cloze_examples(lm: LanguageModel, passages: list[str]) -> list[Example]:
    """The first tokens of each passage that has enough, one of their inner half hidden."""
    assert lm.tokenizer is not None
    vocabulary = Vocabulary.of(lm.tokenizer, decoder_start_id=decoder_start_id(lm.config))
    rng = np.random.default_rng(1)
    examples: list[Example] = []
    for ids in lm.tokenizer.encode_batch(passages):
        if len(ids) >= WINDOW_TOKENS and len(examples) < NUM_WINDOWS:
            place = int(rng.integers(WINDOW_TOKENS // 4, 3 * WINDOW_TOKENS // 4 - 1))
            examples.append(cloze_example(vocabulary, lm.config, ids[:WINDOW_TOKENS], place))
    return examples


@torch.inference_mode()
def cloze_answers(module: Network, examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """The hidden tokens, and the most likely ones of the whole vocabulary."""
    hidden, predicted = [], []
    for first in range(0, len(examples), BATCH_ROWS):
        batch = collate(examples[first : first + BATCH_ROWS]).to(module.device)
        hidden += [str(token) for token in batch.targets.tolist()]
        predicted += [str(token) for token in target_logits(module, batch).argmax(-1).tolist()]
    return hidden, predicted
