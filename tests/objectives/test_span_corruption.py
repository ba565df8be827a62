"""Span corruption: nothing padded, nothing lost, T5's statistics, and the loss of `transformers`."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives import small
from transformers import T5Config, T5ForConditionalGeneration

import seedbed
from seedbed.base.errors import ConfigError
from seedbed.data.batch import Example, collate
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.records import Record, RecordSource
from seedbed.objectives.span_corruption import UL2, Settings, SpanCorruption

TOKENS, CONTEXT = 1_000_000, 120


def joined(example: Example, sentinels: tuple[int, ...] = small.SENTINELS) -> tuple[list[int], list[int]]:
    """The text that source and targets give together, and the lengths of the gaps."""
    assert example.source_ids is not None
    source, targets = example.source_ids.tolist(), example.targets.tolist()
    assert source[0] == small.BEGIN and source[-1] == targets[-1] == small.END
    gaps: dict[int, list[int]] = {}
    for token in targets[:-1]:
        if token in sentinels:
            gaps[token] = []
            last = token
        else:
            gaps[last].append(token)
    assert tuple(gaps) == sentinels[: len(gaps)]
    assert [token for token in source if token in sentinels] == list(gaps)
    text = [inner for token in source[1:-1] for inner in gaps.get(token, [token])]
    return text, [len(gap) for gap in gaps.values()]


@given(
    ids=st.lists(st.integers(0, small.TEXT - 1), min_size=1, max_size=80),
    rate=st.floats(0.01, 0.99),
    mean=st.sampled_from([0.0, 1.0, 3.0, 8.0, 64.0]),
    number=st.integers(0, 1000),
)
def test_kept_text_and_spans_joined_are_the_original(
    ids: list[int], rate: float, mean: float, number: int
) -> None:
    vocabulary = small.vocabulary(sentinel_ids=tuple(range(1059, 44, -1)), size=1060)
    objective = SpanCorruption(vocabulary, Settings(rate=rate, mean_span_tokens=mean))
    example = objective.example(Record(np.array(ids), (0, number)), 0)
    text, gaps = joined(example, vocabulary.sentinel_ids)
    assert text == ids
    assert 0 not in gaps and (len(ids) == 1 or gaps)
    assert example.input_ids.tolist() == [small.START, *example.targets[:-1].tolist()]


def test_the_statistics_of_a_million_tokens() -> None:
    """15% +- 0.1 are cut out, in spans of 3 +- 0.05 tokens."""
    objective = small.objective("span_corruption")
    size = objective.record_tokens(CONTEXT)
    rng = np.random.default_rng(0)
    cut = spans = total = 0
    while total < TOKENS:
        example = objective.example(Record(rng.integers(0, small.TEXT, size), (0, total)), 0)
        sentinels = int(np.isin(example.targets, small.SENTINELS).sum())
        cut, spans, total = cut + len(example.targets) - 1 - sentinels, spans + sentinels, total + size
    assert abs(cut / total - 0.15) < 0.001
    assert abs(cut / spans - 3) < 0.05


def test_every_way_to_cut_is_as_likely() -> None:
    """Three spans of 6 tokens: the ten ways to write 6 as a sum of three come alike often."""
    objective = small.objective("span_corruption", rate=0.3, mean_span_tokens=2.0)
    counts: Counter[tuple[int, ...]] = Counter()
    for number in range(20_000):
        _, gaps = joined(objective.example(Record(np.arange(20), (0, number)), 0))
        counts[tuple(gaps)] += 1
    assert len(counts) == 10
    expected = 2000
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 27.9  # chi-square, 9, p = 0.001


@pytest.mark.parametrize("rate", [0.15, 0.5, 0.25])
@pytest.mark.parametrize("mean", [0.0, 3.0, 64.0])
def test_the_context_is_used_to_the_end(rate: float, mean: float) -> None:
    vocabulary = small.vocabulary(sentinel_ids=tuple(range(1059, 44, -1)), size=1060)
    objective = SpanCorruption(vocabulary, Settings(rate=rate, mean_span_tokens=mean))
    size = objective.record_tokens(512)
    lengths = []
    for number in range(200):
        example = objective.example(Record(np.full(size, 3), (0, number)), 0)
        assert example.source_ids is not None
        lengths.append(max(len(example.source_ids), len(example.targets)))
    assert 509 <= max(lengths) <= 512 and min(lengths) >= 505


def test_more_gaps_than_sentinels_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="makes 29 gaps in a text, and the tokenizer has 15 sentinels; lower"
    ):
        small.objective("span_corruption").record_tokens(512)


def test_a_tokenizer_without_sentinels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs sentinels <extra_id_0>, .* --family bart --objective span"):
        SpanCorruption(small.vocabulary(sentinel_ids=(), family="bart"), Settings())


@pytest.mark.parametrize("begin", [(), (small.BEGIN,)])
def test_a_span_at_the_end_makes_a_prefix_and_its_continuation(begin: tuple[int, ...]) -> None:
    """An encoder reads what the tokenizer puts before a text, BART's <s>, before this one, too."""
    settings = Settings(rate=0.25, mean_span_tokens=0)
    example = SpanCorruption(small.vocabulary(begin_ids=begin), settings).example(
        Record(np.arange(40), (0, 0)), 0
    )
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [*begin, *range(30), small.SENTINELS[0], small.END]
    assert example.targets.tolist() == [small.SENTINELS[0], *range(30, 40), small.END]


def test_the_mixture_of_ul2_deals_its_shares_of_the_tokens() -> None:
    objective = small.objective("span_corruption", mixture="ul2")
    parts = objective.mixture()
    assert len(parts) == 7 and sum(share for _, share in parts) == pytest.approx(1)
    settings = [part.settings for part, _ in parts]  # type: ignore[attr-defined]
    assert {(s.rate, s.mean_span_tokens) for s in settings} == set(UL2)
    rows = [np.random.default_rng(i).integers(0, small.TEXT, 40).tolist() for i in range(50)]
    mixture = [MixturePart(RecordSource(rows, seed=i), part, share) for i, (part, share) in enumerate(parts)]
    loader = Loader(mixture, batch_tokens=500, seed=0)
    for _ in range(200):
        loader.next_step()
    counts = [position.num_tokens for position in loader.positions]
    for count, (_, share) in zip(counts, parts, strict=True):
        assert count / sum(counts) == pytest.approx(share, abs=0.002)


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    config = T5Config(
        vocab_size=small.SIZE, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    config.decoder_start_token_id = small.START
    theirs = T5ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = seedbed.load(tmp_path).module
    objective = small.objective("span_corruption")
    examples = [objective.example(row, 0) for row in small.records(SpanCorruption, 9)]
    losses = labelled_losses(theirs, examples)
    with torch.no_grad():
        batch = collate(examples)
        loss = objective.loss_sum(ours, batch) / batch.num_targets
    assert loss.item() == pytest.approx(losses, rel=1e-5)


def labelled_losses(theirs: torch.nn.Module, examples: list[Example]) -> float:
    """What `labels=` gives on the padded batch: the decoder's inputs are made from the labels there."""
    width = max(len(e.source_ids) for e in examples if e.source_ids is not None)
    ids = torch.zeros(len(examples), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    labels = torch.full((len(examples), max(len(e.targets) for e in examples)), -100)
    for row, example in enumerate(examples):
        assert example.source_ids is not None
        n = len(example.source_ids)
        ids[row, :n], mask[row, :n] = torch.from_numpy(example.source_ids), 1
        labels[row, : len(example.targets)] = torch.from_numpy(example.targets)
    with torch.no_grad():
        return float(theirs(input_ids=ids, attention_mask=mask, labels=labels).loss)
