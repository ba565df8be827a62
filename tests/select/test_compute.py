"""Parameters and FLOPs by part against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.models.family import Config
from seedbed.models.network import build, family
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops

D, L, V, T = 64, 3, 300, 32


def gpt2() -> Config:
    config = family("gpt2").sized(D, L)
    return replace(config, vocab_size=V, num_heads=4, max_positions=T)


def test_parameters_of_gpt2() -> None:
    block = {"attention": 4 * D * D + 4 * D, "feed_forward": 8 * D * D + 5 * D}
    expected = {part: L * count for part, count in block.items()}
    expected |= {"embeddings": V * D + T * D, "norms": (2 * L + 1) * 2 * D}
    assert parameters_by_part(gpt2()) == expected


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3)])
def test_parameters_of_recurrent_networks(name: str, gates: int) -> None:
    config = replace(family(name).sized(D, L), vocab_size=V, tie_embeddings=False)
    counts = parameters_by_part(config)
    assert counts == {
        "embeddings": V * D,
        "recurrence": L * gates * (2 * D * D + 2 * D),
        "output": V * D + V,
    }


@pytest.mark.parametrize("name", ["gpt2", "llama", "seedling", "lstm", "gru"])
def test_parts_add_up_to_the_network(name: str) -> None:
    config = replace(family(name).sized(D, L), vocab_size=V)
    network = build(config)
    assert sum(parameters_by_part(config).values()) == sum(p.numel() for p in network.parameters())


def test_flops_of_gpt2() -> None:
    flops = forward_flops(gpt2(), row_tokens=T)
    assert flops == {
        "attention": 2 * L * 4 * D * D,
        "feed_forward": 2 * L * 8 * D * D,
        "scores": L * 2 * (T + 1) * D,  # two products over (T + 1) / 2 keys, a multiply-add two
        "output": 2 * V * D,
    }


def test_flops_as_torch_counts_them() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from seedbed.nn.layout import Layout

    config = replace(gpt2(), num_layers=2)
    network = build(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.output(network(torch.zeros(T, dtype=torch.int64), Layout.of([T])))
    ours = forward_flops(config, row_tokens=T)
    products = T * (sum(ours.values()) - ours["scores"])
    # torch counts all T keys of a row, we those that a token sees.
    scores = 2 * 4 * T * T * D
    assert counter.get_total_flops() == pytest.approx(products + scores, rel=1e-6)


def test_training_is_three_passes_and_recomputes_all_but_the_output() -> None:
    forward = forward_flops(gpt2(), row_tokens=T)
    once = sum(forward.values())
    assert training_flops(gpt2(), num_tokens=7, row_tokens=T) == pytest.approx(7 * 3 * once)
    again = training_flops(gpt2(), num_tokens=7, row_tokens=T, recomputes=True)
    assert again == pytest.approx(7 * (4 * once - forward["output"]))
