"""Clozes: what each kind of network reads of a window, and the share that it predicts."""

from dataclasses import replace

import pytest
import torch
from tests.objectives import small

from seedbed.data.batch import collate
from seedbed.evaluation.cloze import Window, cloze_example, cloze_hits
from seedbed.models.family import Config
from seedbed.models.network import family

IDS = list(range(10, 20))
WINDOW = Window(IDS, 4, 2)  # 14 and 15 are hidden


def config(name: str) -> Config:
    return family(name).sized(32, 1)


def test_a_decoder_reads_what_stands_before() -> None:
    example = cloze_example(small.vocabulary(shape="decoder"), config("gpt2"), WINDOW)
    assert example.input_ids.tolist() == [small.BEGIN, *range(10, 15)]
    assert example.targets.tolist() == [14, 15]
    assert example.target_index is not None and example.target_index.tolist() == [4, 5]


def test_an_encoder_reads_both_sides_of_masks() -> None:
    example = cloze_example(small.vocabulary(shape="encoder"), config("bert"), WINDOW)
    masked = [*IDS[:4], small.MASK, small.MASK, *IDS[6:]]
    assert example.input_ids.tolist() == [small.BEGIN, *masked, small.END]
    assert example.target_index is not None and example.target_index.tolist() == [5, 6]


def test_a_span_model_reads_a_sentinel_and_writes_what_it_stands_for() -> None:
    example = cloze_example(small.vocabulary(), config("t5"), WINDOW)
    gap = small.SENTINELS[0]
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, *IDS[:4], gap, *IDS[6:], small.END]
    assert example.input_ids.tolist() == [small.START, gap, 14]
    assert example.target_index is not None and example.target_index.tolist() == [1, 2]


def test_a_denoising_model_has_written_the_text_before() -> None:
    vocabulary = small.vocabulary(sentinel_ids=())
    example = cloze_example(vocabulary, config("bart"), WINDOW)
    assert example.source_ids is not None
    assert example.source_ids.tolist() == [small.BEGIN, *IDS[:4], small.MASK, *IDS[6:], small.END]
    assert example.input_ids.tolist() == [small.START, small.BEGIN, *IDS[:5]]
    assert example.target_index is not None and example.target_index.tolist() == [5, 6]


@pytest.mark.parametrize("name", ["gpt2", "lstm", "bert", "t5", "bart"])
def test_hits_are_those_of_each_window_alone(name: str) -> None:
    module = small.network(name)
    vocabulary = small.vocabulary(shape=module.config.shape)
    if name == "bart":
        vocabulary = replace(vocabulary, sentinel_ids=())
    windows = [Window([(7 * i + k) % 40 for k in range(9 + i % 3)], 2 + i % 4, 1 + i % 3) for i in range(70)]
    together = cloze_hits(module, vocabulary, windows)
    alone = [cloze_hits(module, vocabulary, [window]).item() for window in windows]
    assert sorted(together.tolist()) == pytest.approx(sorted(alone))


def test_a_network_that_learned_the_windows_predicts_them() -> None:
    module = small.network("bert")
    vocabulary = small.vocabulary(shape="encoder")
    windows = [Window([(i + k) % 40 for k in range(12)], 5, 1) for i in range(0, 40, 2)]
    before = cloze_hits(module, vocabulary, windows).mean()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    batch = collate([cloze_example(vocabulary, module.config, window) for window in windows])
    for _ in range(100):
        loss = small.objective("masked").loss_sum(module, batch) / batch.num_targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 0.5 and cloze_hits(module, vocabulary, windows).mean() == 1
