"""Clozes: what each kind of network reads of a window, and what it predicts for the hidden token."""

from dataclasses import replace

import pytest
import torch
from tests.objectives import small

from seedbed.data.batch import collate
from seedbed.evaluation.cloze import cloze_answers, cloze_example
from seedbed.models.family import Config
from seedbed.models.network import family

IDS, PLACE = list(range(10, 20)), 4  # 14 is hidden


def config(name: str) -> Config:
    return family(name).sized(32, 1)


def test_a_decoder_reads_what_stands_before() -> None:
    example = cloze_example(small.vocabulary(shape="decoder"), config("gpt2"), IDS, PLACE)
    assert example.input_ids.tolist() == [small.BEGIN, *IDS[:4]]
    assert example.targets.tolist() == [14]
    assert example.source_ids is None
    assert example.target_index is not None and example.target_index.tolist() == [4]


def test_an_encoder_reads_both_sides_of_a_mask() -> None:
    example = cloze_example(small.vocabulary(shape="encoder"), config("bert"), IDS, PLACE)
    assert example.input_ids.tolist() == [small.BEGIN, *IDS[:4], small.MASK, *IDS[5:], small.END]
    assert example.source_ids is None and example.targets.tolist() == [14]
    assert example.target_index is not None and example.target_index.tolist() == [5]


def test_a_span_model_reads_a_sentinel_and_writes_what_it_stands_for() -> None:
    example = cloze_example(small.vocabulary(), config("t5"), IDS, PLACE)
    gap = small.SENTINELS[0]
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, *IDS[:4], gap, *IDS[5:], small.END]
    assert example.input_ids.tolist() == [small.START, gap]
    assert example.target_index is not None and example.target_index.tolist() == [1]


def test_a_denoising_model_has_written_the_text_before() -> None:
    vocabulary = small.vocabulary(sentinel_ids=())
    example = cloze_example(vocabulary, config("bart"), IDS, PLACE)
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, *IDS[:4], small.MASK, *IDS[5:], small.END]
    assert example.input_ids.tolist() == [small.START, small.BEGIN, *IDS[:4]]
    assert example.target_index is not None and example.target_index.tolist() == [5]


@pytest.mark.parametrize("name", ["gpt2", "lstm", "bert", "t5", "bart"])
def test_answers_are_those_of_each_window_alone(name: str) -> None:
    module = small.network(name)
    vocabulary = small.vocabulary(shape=module.config.shape)
    if name == "bart":
        vocabulary = replace(vocabulary, sentinel_ids=())
    windows = [[(7 * i + k) % 40 for k in range(9 + i % 3)] for i in range(70)]
    examples = [cloze_example(vocabulary, module.config, ids, 2 + ids[0] % 4) for ids in windows]
    together = zip(*cloze_answers(module, examples), strict=True)
    alone = [tuple(answer[0] for answer in cloze_answers(module, [one])) for one in examples]
    assert sorted(together) == sorted(alone)


def test_a_network_that_learned_the_windows_predicts_them() -> None:
    module = small.network("bert")
    vocabulary = small.vocabulary(shape="encoder")
    windows = [[(i + k) % 40 for k in range(12)] for i in range(0, 40, 2)]
    examples = [cloze_example(vocabulary, module.config, ids, 5) for ids in windows]

    def num_right() -> int:
        return sum(map(str.__eq__, *cloze_answers(module, examples)))

    before = num_right()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    batch = collate(examples)
    for _ in range(100):
        loss = small.objective("masked").loss_sum(module, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 10 and num_right() == 20
