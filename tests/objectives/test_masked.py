"""Masked training: BERT's 80/10/10, whole words, static masks, and the loss of `transformers`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.objectives import small
from transformers import BertConfig, BertForMaskedLM

import seedbed
from seedbed.base.errors import ConfigError
from seedbed.data.batch import collate
from seedbed.data.records import Record
from seedbed.objectives.masked import Masked, Settings

TOKENS, LENGTH = 1_000_000, 254


def long_texts(length: int = LENGTH) -> list[Record]:
    rng = np.random.default_rng(0)
    num = -(-TOKENS // length)
    return [Record(rng.integers(0, small.TEXT, length), (0, i)) for i in range(num)]


@pytest.mark.parametrize("length", [LENGTH, 61])
@pytest.mark.parametrize("whole_words", [False, True])
def test_the_shares_over_a_million_tokens(length: int, whole_words: bool) -> None:
    """15% +- 0.1 are chosen; of these 80/10/10 +- 0.2 points are the mask, another token, the token."""
    objective = small.objective("masked", whole_words=whole_words)
    chosen = masked = random = total = 0
    for record in long_texts(length):
        example = objective.example(record, 0)
        at = example.target_index
        assert at is not None and np.array_equal(record.ids[at - 1], example.targets)
        read = example.input_ids[at]
        chosen, total = chosen + len(at), total + length
        masked += int((read == small.MASK).sum())
        random += int(((read != small.MASK) & (read != example.targets)).sum())
    assert abs(chosen / total - 0.15) < 0.001
    assert abs(masked / chosen - 0.8) < 0.002
    # One of the TEXT tokens that were sampled is the token itself, which looks as if it had been kept.
    assert abs(random / chosen - 0.1 * (1 - 1 / small.TEXT)) < 0.002


def test_nothing_else_changes_and_special_tokens_are_around() -> None:
    objective = small.objective("masked")
    ids = np.arange(39)
    example = objective.example(Record(np.append(ids, small.EOS), (0, 0)), 0)
    assert example.input_ids[0] == small.BEGIN and example.input_ids[-1] == small.END
    inner = example.input_ids[1:-1]
    assert len(inner) == len(ids) and example.target_index is not None
    untouched = np.setdiff1d(np.arange(39), example.target_index - 1)
    assert np.array_equal(inner[untouched], ids[untouched])


def test_special_tokens_are_neither_selected_nor_sampled() -> None:
    objective = small.objective("masked", rate=0.9)
    ids = np.array([3, small.SENTINELS[0], 4, small.SENTINELS[1], 5, 6, 7, 8] * 20)
    for number in range(20):
        example = objective.example(Record(ids, (0, number)), 0)
        assert example.target_index is not None
        assert (example.targets < small.TEXT).all()
        read = example.input_ids[example.target_index]
        assert ((read < small.TEXT) | (read == small.MASK)).all()


def test_whole_words_are_chosen_together() -> None:
    objective = small.objective("masked", whole_words=True)
    words = small.vocabulary().begins_word
    for number in range(50):
        ids = np.random.default_rng(number).integers(0, small.TEXT, 60)
        example = objective.example(Record(ids, (0, number)), 0)
        assert example.target_index is not None
        begins = words[ids].copy()
        begins[0] = True
        word = np.cumsum(begins)
        chosen = set(word[example.target_index - 1].tolist())
        assert np.array_equal(np.flatnonzero(np.isin(word, list(chosen))), example.target_index - 1)


def test_static_masks_are_the_same_in_every_pass() -> None:
    objective = small.objective("masked", dynamic=False)
    ids = np.arange(39)
    first, second = (objective.example(Record(ids, (number, 4)), 0) for number in (0, 1))
    assert np.array_equal(first.input_ids, second.input_ids)
    assert not objective.cut_anew and small.objective("masked").cut_anew
    other = objective.example(Record(ids, (0, 5)), 0)
    assert not np.array_equal(first.input_ids, other.input_ids)


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    theirs = BertForMaskedLM(BertConfig(vocab_size=small.SIZE, max_position_embeddings=64, **sizes)).eval()
    theirs.save_pretrained(tmp_path)
    ours = seedbed.load(tmp_path).module
    objective = small.objective("masked", rate=0.4)
    examples = [objective.example(row, 0) for row in small.records(Masked, 9)]
    longest = max(len(example.input_ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.int64)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        n = len(example.input_ids)
        ids[row, :n], mask[row, :n] = torch.from_numpy(example.input_ids), 1
        labels[row, example.target_index] = torch.from_numpy(example.targets)
    with torch.no_grad():
        batch = collate(examples)
        loss = objective.loss_sum(ours, batch) / batch.num_targets
        expected = theirs(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="the objective masked needs a mask token, and this tokenizer has"):
        Masked(small.vocabulary(mask_id=None), Settings())


def test_a_context_too_short_for_text_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match="context_tokens=2 leaves no token for text beside 2 special tokens; set it to at least 3",
    ):
        small.objective("masked").record_tokens(2)
