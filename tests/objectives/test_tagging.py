"""Tagging: the first token of each word has its tag, the others have none; the loss is `transformers`'."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.objectives import small
from tests.objectives.test_classification import SIZES, padded
from transformers import BertConfig, BertForTokenClassification

import seedbed
from seedbed.data.batch import collate
from seedbed.data.records import PairSource, Record
from seedbed.data.shards import write_shard
from seedbed.objectives.tagging import Tagging


def test_the_first_token_of_a_word_has_its_tag_and_the_others_none() -> None:
    record = Record(np.array([5, 6, 7, 8]), (0, 0), np.array([3, 0, 0, 1]))
    example = small.objective("tagging", shape="encoder").example(record, 0)
    assert example.input_ids.tolist() == [small.BEGIN, 5, 6, 7, 8, small.END]
    assert example.targets.tolist() == [2, 0]
    assert example.target_index is not None and example.target_index.tolist() == [1, 4]


def test_a_long_text_loses_its_end_and_the_tags_of_it(tmp_path: Path) -> None:
    objective = small.objective("tagging", shape="encoder")
    inputs = write_shard(tmp_path / "ids", [list(range(1, 11)), [1, 2]], vocab_size=small.SIZE)
    tags = write_shard(tmp_path / "tags", [[1, 0, 2, 0, 3, 0, 1, 2, 3, 1], [1, 0]], vocab_size=4)
    limit = objective.max_input_tokens(tags.lengths, 7)
    source = PairSource(inputs, tags, max_input_tokens=limit, seed=0, shuffle=False, cuts_answers=True)
    assert (source.num_cut, source.num_left_out) == (1, 0)
    long, short = (objective.example(record, 0) for record in source.records(0, 0))
    assert long.input_ids.tolist() == [small.BEGIN, 1, 2, 3, 4, 5, small.END]
    assert long.targets.tolist() == [0, 1, 2]
    assert long.target_index is not None and long.target_index.tolist() == [1, 3, 5]
    assert short.targets.tolist() == [0]


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=small.SIZE, num_labels=3, pad_token_id=0, **SIZES["bert"])
    torch.manual_seed(0)
    theirs: Any = BertForTokenClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = seedbed.load(tmp_path).module
    objective = small.objective("tagging", shape="encoder")
    examples = [objective.example(row, 0) for row in small.records(Tagging, 9)]
    inputs = padded(examples)
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, example in enumerate(examples):
        labels[row, example.target_index] = torch.from_numpy(example.targets)
    with torch.no_grad():
        batch = collate(examples)
        loss = objective.loss_sum(ours, batch) / batch.num_targets
        expected = theirs(**inputs, labels=labels).loss
    assert batch.num_targets == int((labels >= 0).sum()) < batch.num_tokens
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_row_is_what_a_model_with_tags_reads() -> None:
    network = small.network("bert", "tagging").eval()
    objective = small.objective("tagging", shape="encoder")
    lm = seedbed.LanguageModel(network)
    (record,) = small.records(Tagging, 1)
    example = objective.example(record, 0)
    read = lm.logits(torch.from_numpy(example.input_ids)[None])[0]
    assert example.target_index is not None
    with torch.no_grad():
        logits = network.output(network(torch.from_numpy(example.input_ids), collate([example]).layout))
    for place in example.target_index.tolist():
        assert torch.equal(read[place], logits[place])
