"""Completion: the loss is on the answer alone, for both kinds of networks, smoothed in training only."""

import numpy as np
import pytest
from tests.objectives import small
from torch.nn import functional as F

from seedbed.base.errors import ConfigError
from seedbed.data.batch import collate
from seedbed.data.records import Record
from seedbed.objectives.completion import Completion, Settings

RECORD = Record(np.array([5, 6, 7]), (0, 0), np.array([8, 9]))


def test_a_decoder_reads_the_prompt_and_learns_the_answer() -> None:
    example = small.objective("completion", shape="decoder").example(RECORD, 0)
    assert example.input_ids.tolist() == [small.BEGIN, 5, 6, 7, 8, 9]
    assert example.targets.tolist() == [8, 9, small.END]
    assert example.target_index is not None and example.target_index.tolist() == [3, 4, 5]
    assert example.source_ids is None


def test_an_encoder_reads_the_prompt_of_an_encoder_decoder() -> None:
    example = small.objective("completion", shape="encoder-decoder").example(RECORD, 0)
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, 5, 6, 7, small.END]
    assert example.targets.tolist() == [small.BEGIN, 8, 9, small.END]
    assert example.input_ids.tolist() == [small.START, small.BEGIN, 8, 9]


def test_an_answer_to_nothing_begins_with_its_second_token_where_no_token_begins_a_text() -> None:
    vocabulary = small.vocabulary(shape="decoder", begin_ids=(), end_ids=())
    example = Completion(vocabulary, Settings()).example(
        Record(np.zeros(0, np.int64), (0, 0), np.arange(3)), 0
    )
    assert example.input_ids.tolist() == [0, 1, 2] and example.targets.tolist() == [1, 2, small.EOS]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="the objective completion needs an end token, and this tokenizer"):
        Completion(small.vocabulary(eos_id=None, end_ids=()), Settings())


@pytest.mark.parametrize("shape", ["decoder", "encoder-decoder"])
def test_no_row_is_longer_than_the_context(shape: str) -> None:
    objective = small.objective("completion", shape=shape)
    lengths = np.array([1, 5, 12, 30])
    limits = objective.max_input_tokens(lengths, 16)
    for length, limit in zip(lengths, limits, strict=True):
        if limit >= 0:
            record = Record(np.full(limit, 3), (0, 0), np.full(length, 4))
            example = objective.example(record, 0)
            rows = [example.input_ids, *([] if example.source_ids is None else [example.source_ids])]
            assert max(map(len, rows)) == 16
    assert limits[-1] < 0


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_labels_are_smoothed_in_training_alone(family: str) -> None:
    network = small.network(family)
    objective = small.objective("completion", shape=network.config.shape, label_smoothing=0.1)
    plain = small.objective("completion", shape=network.config.shape)
    batch = collate([objective.example(row, 0) for row in small.records(Completion, 5)])
    network.train()
    hidden = network(batch.input_ids, batch.layout, **batch.source)
    hidden = hidden if batch.target_index is None else hidden[batch.target_index]
    logits = network.output(hidden)
    expected = F.cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=0.1)
    assert objective.loss_sum(network, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    network.eval()
    assert objective.loss_sum(network, batch).item() == plain.loss_sum(network, batch).item()
    assert plain.loss_sum(network, batch).item() != pytest.approx(expected.item(), rel=1e-4)
