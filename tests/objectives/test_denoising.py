"""Denoising: BART's infilling, permutation and deletion, and the loss of `transformers`."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives import small
from tests.objectives.test_span_corruption import labelled_losses
from transformers import BartConfig, BartForConditionalGeneration

import seedbed
from seedbed.base.errors import ConfigError
from seedbed.data.batch import collate
from seedbed.data.records import Record
from seedbed.objectives.denoising import Denoising, Settings

TOKENS = 1_000_000


def test_span_lengths_are_poisson_over_a_million_tokens() -> None:
    """Chi-square of the lengths 0 to 10 and more against Poisson 3 at p = 0.001, in texts of 5,000 tokens."""
    objective = small.objective("denoising", permute_sentences=False)
    assert isinstance(objective, Denoising)
    rng, counts, total = np.random.default_rng(0), Counter[int](), 0
    while total < TOKENS:
        counts.update(objective.span_lengths(rng, 5000)[:-1].tolist())  # the last one is cut
        total += 5000
    num = sum(counts.values())
    expected = [num * math.exp(-3) * 3**k / math.factorial(k) for k in range(11)]
    expected.append(num - sum(expected))
    found = [counts[k] for k in range(11)] + [sum(n for k, n in counts.items() if k > 10)]
    assert sum((f - e) ** 2 / e for f, e in zip(found, expected, strict=True)) < 31.3  # 11 degrees


def test_the_shares_of_a_million_tokens() -> None:
    """30% of the tokens are masked; spans have a mean of 3, empty ones included, the last cut."""
    objective = small.objective("denoising", permute_sentences=False)
    size = 254
    rng = np.random.default_rng(1)
    total = masks = removed = 0
    while total < TOKENS:
        example = objective.example(Record(rng.integers(0, small.TEXT, size), (0, total)), 0)
        assert example.source_ids is not None
        here = int((example.source_ids == small.MASK).sum())
        masks, removed = masks + here, removed + size + 2 + here - len(example.source_ids)
        total += size
    assert abs(removed / total - 0.3) < 0.001
    assert 2.85 < removed / masks < 3


@given(
    ids=st.lists(st.integers(0, small.TEXT - 1), min_size=1, max_size=60),
    rate=st.floats(0, 0.99),
    number=st.integers(0, 1000),
)
def test_what_is_kept_is_a_part_of_the_text_in_order(ids: list[int], rate: float, number: int) -> None:
    objective = small.objective("denoising", rate=rate, permute_sentences=False)
    example = objective.example(Record(np.array(ids), (0, number)), 0)
    assert example.source_ids is not None
    source = example.source_ids.tolist()
    assert source[0] == small.BEGIN and source[-1] == small.END and len(source) <= len(ids) + 2
    rest = iter(ids)
    assert all(token in rest for token in source[1:-1] if token != small.MASK)
    assert example.targets.tolist() == [small.BEGIN, *ids, small.END]
    assert example.input_ids.tolist() == [small.START, small.BEGIN, *ids]


def test_spans_do_not_touch_where_enough_tokens_are_kept() -> None:
    objective = small.objective("denoising", permute_sentences=False)
    for number in range(200):
        example = objective.example(Record(np.arange(39), (0, number)), 0)
        assert example.source_ids is not None
        masks = np.flatnonzero(example.source_ids == small.MASK)
        assert (np.diff(masks) > 1).all()


def test_sentences_change_places_and_stay_whole() -> None:
    objective = small.objective("denoising", rate=0.0)
    sentences = [[1, 2, 7], [3, 14], [4, 5, 6, 21, 28], [8, 9]]  # 7, 14, 21, 28 end one
    ids = [token for sentence in sentences for token in sentence]
    orders = set()
    for number in range(200):
        example = objective.example(Record(np.array(ids), (0, number)), 0)
        assert example.source_ids is not None
        left, order = example.source_ids[1:-1].tolist(), []
        while left:
            which = next(i for i, sentence in enumerate(sentences) if sentence[0] == left[0])
            assert left[: len(sentences[which])] == sentences[which]
            left = left[len(sentences[which]) :]
            order.append(which)
        orders.add(tuple(order))
    assert len(orders) == 24


def test_deleted_tokens_leave_no_trace() -> None:
    objective = small.objective("denoising", rate=0.0, permute_sentences=False, delete_rate=0.2)
    kept = 0
    for number in range(1000):
        example = objective.example(Record(np.arange(39), (0, number)), 0)
        assert example.source_ids is not None
        inner = example.source_ids[1:-1]
        assert (np.diff(inner) > 0).all()
        kept += len(inner)
    assert kept / 39_000 == pytest.approx(0.8, abs=0.002)


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    shared = {"d_model": 32, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    sides = {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in SIZES.items()}
    config = BartConfig(vocab_size=small.SIZE, max_position_embeddings=64, **shared, **sides)
    config.decoder_start_token_id = small.START
    theirs = BartForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = seedbed.load(tmp_path).module
    objective = small.objective("denoising")
    examples = [objective.example(row, 0) for row in small.records(Denoising, 9)]
    with torch.no_grad():
        batch = collate(examples)
        loss = objective.loss_sum(ours, batch) / batch.num_targets
    assert loss.item() == pytest.approx(labelled_losses(theirs, examples), rel=1e-5)


SIZES = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}


def test_a_tokenizer_without_a_mask_is_refused_unless_none_is_needed() -> None:
    with pytest.raises(ConfigError, match="the objective denoising needs a mask token"):
        Denoising(small.vocabulary(mask_id=None), Settings())
    Denoising(small.vocabulary(mask_id=None), Settings(rate=0.0))
