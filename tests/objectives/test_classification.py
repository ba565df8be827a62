"""Classification: a row is read as `lm.classify` reads it, and the loss is that of `transformers`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.objectives import small
from torch.nn import functional as F

import seedbed
from seedbed.base.errors import ConfigError
from seedbed.data.batch import Example, collate
from seedbed.data.objective import OBJECTIVES
from seedbed.data.records import Record
from seedbed.objectives.classification import Classification

RECORD = Record(np.array([5, 6, 7]), (0, 0), np.array([2]))
PAD = 0
LABELLED = [name for name in small.NAMES if OBJECTIVES.get(name).head_kind]
SIZES = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "bart": {"d_model": 32, "decoder_start_token_id": small.START}
    | {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    | {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    | {f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
}


def padded(examples: list[Example]) -> dict[str, torch.Tensor]:
    """Rows padded on the right, and which of their tokens count."""
    rows = [e.input_ids if e.source_ids is None else e.source_ids for e in examples]
    ids = torch.full((len(rows), max(map(len, rows))), PAD)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.from_numpy(tokens), 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("shape", ["encoder", "decoder"])
def test_a_row_is_the_text_in_the_tokens_around_it(shape: str) -> None:
    example = small.objective("classification", shape=shape).example(RECORD, 0)
    assert example.input_ids.tolist() == [small.BEGIN, 5, 6, 7, small.END]
    assert example.targets.tolist() == [1] and example.target_index is None
    assert example.source_ids is None


def test_a_decoder_after_an_encoder_reads_the_row_again() -> None:
    example = small.objective("classification", shape="encoder-decoder").example(RECORD, 0)
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, 5, 6, 7, small.END]
    assert example.input_ids.tolist() == [small.START, small.BEGIN, 5, 6, 7]


@pytest.mark.parametrize("family", SIZES)
def test_the_loss_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {"vocab_size": small.SIZE, "pad_token_id": PAD, "eos_token_id": small.END}
    config = transformers.AutoConfig.for_model(family, num_labels=3, **values, **SIZES[family])
    torch.manual_seed(0)
    theirs = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    ours: Any = seedbed.load(tmp_path).module
    objective = small.objective("classification", shape=ours.config.shape)
    rows = [r._replace(ids=np.maximum(r.ids, 1)) for r in small.records(Classification, 9)]  # none is a pad
    examples = [objective.example(row, 0) for row in rows]
    labels = torch.tensor([int(example.targets[0]) for example in examples])
    with torch.no_grad():
        batch = collate(examples)
        loss = objective.loss_sum(ours, batch) / batch.num_targets
        expected = theirs(**padded(examples), labels=labels).loss
    assert batch.num_targets == 9 and set(labels.tolist()) == {0, 1, 2}
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", SIZES)
def test_a_row_is_what_a_model_with_classes_reads(family: str) -> None:
    """The logits of a text are those that its row is trained on."""
    network: Any = small.network(family, "classification").eval()
    objective = small.objective("classification", shape=network.config.shape)
    lm = seedbed.LanguageModel(network, generation={"decoder_start_token_id": small.START})
    for record in small.records(Classification, 4):
        example = objective.example(record, 0)
        found = lm.classify([small.BEGIN, *record.ids.tolist(), small.END])
        with torch.no_grad():
            loss = objective.loss_sum(network, collate([example])).item()
        label = small.LABELS[int(example.targets[0])]
        assert -np.log(found.scores[label]) == pytest.approx(loss, rel=1e-5)


def test_labels_are_smoothed_in_training_alone() -> None:
    network: Any = small.network("bert", "classification")
    smooth = small.objective("classification", shape="encoder", label_smoothing=0.1)
    batch = collate([smooth.example(row, 0) for row in small.records(Classification, 5)])
    logits = network.classify(network(batch.input_ids, batch.layout), batch.layout)
    expected = F.cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=0.1).item()
    plain = F.cross_entropy(logits, batch.targets, reduction="sum").item()
    network.train()
    assert smooth.loss_sum(network, batch).item() == pytest.approx(expected, rel=1e-5)
    network.eval()
    assert smooth.loss_sum(network, batch).item() == pytest.approx(plain, rel=1e-5)
    assert plain != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", LABELLED)
def test_a_long_text_fills_the_context_and_a_short_context_is_refused(name: str) -> None:
    objective = small.objective(name, shape="encoder")
    (num_tokens,) = objective.max_input_tokens(np.array([1]), 16)
    example = objective.example(Record(np.full(num_tokens, 3), (0, 0), np.full(num_tokens, 1)), 0)
    assert len(example.input_ids) == 16
    with pytest.raises(
        ConfigError, match="context_tokens=2 leaves no token for text beside 2 special tokens"
    ):
        objective.max_input_tokens(np.array([1]), 2)


@pytest.mark.parametrize("name", LABELLED)
def test_right_predictions_are_counted(name: str) -> None:
    network: Any = small.network("bert", name).eval()
    objective = small.objective(name, shape="encoder", label_smoothing=0.3)
    batch = collate([objective.example(row, 0) for row in small.records(OBJECTIVES.get(name), 20)])
    with torch.no_grad():
        hidden = network(batch.input_ids, batch.layout)
        logits = (
            network.classify(hidden, batch.layout) if batch.target_index is None else network.output(hidden)
        )
        logits = logits if batch.target_index is None else logits[batch.target_index]
        expected = sum(int(row.argmax()) == int(t) for row, t in zip(logits, batch.targets, strict=True))
        nats, predicted = objective.measure(network, batch)
        assert nats.sum().item() == pytest.approx(objective.loss_sum(network, batch).item())
    right = int((predicted == batch.targets).sum())
    assert len(nats) == batch.num_targets and right == expected and 0 < right < batch.num_targets
