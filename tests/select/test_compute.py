"""Parameters and FLOPs by part against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.models.family import Config, Network
from seedbed.models.network import build, family, initialize
from seedbed.nn.attention import Attention
from seedbed.select.compute import forward_flops, gradients_needed, parameters_by_part, training_flops

D, L, V, T = 64, 3, 300, 32


def gpt2() -> Config:
    config = family("gpt2").sized(D, L)
    return replace(config, vocab_size=V, num_heads=4, max_positions=T)


def test_parameters_of_gpt2() -> None:
    block = {"attention": 4 * D * D + 4 * D, "feed_forward": 8 * D * D + 5 * D}
    expected = {part: L * count for part, count in block.items()}
    expected |= {"embeddings": V * D + T * D, "norms": (2 * L + 1) * 2 * D}
    assert parameters_by_part(build(gpt2(), "meta")) == expected


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3)])
def test_parameters_of_recurrent_networks(name: str, gates: int) -> None:
    config = replace(family(name).sized(D, L), vocab_size=V, tie_embeddings=False)
    counts = parameters_by_part(build(config, "meta"))
    assert counts == {
        "embeddings": V * D,
        "recurrence": L * gates * (2 * D * D + 2 * D),
        "output": V * D + V,
    }


@pytest.mark.parametrize("name", ["gpt2", "llama", "seedling", "lstm", "gru"])
def test_parts_add_up_to_the_network(name: str) -> None:
    config = replace(family(name).sized(D, L), vocab_size=V)
    network = build(config)
    assert sum(parameters_by_part(network).values()) == sum(p.numel() for p in network.parameters())


def test_flops_of_gpt2() -> None:
    flops = forward_flops(build(gpt2(), "meta"), row_tokens=T)
    assert flops == {
        "attention": 2 * L * 4 * D * D,
        "feed_forward": 2 * L * 8 * D * D,
        "scores": L * 2 * (T + 1) * D,  # two matmuls over (T + 1) / 2 keys, a multiply-add two
        "output": 2 * V * D,
    }


def test_flops_as_torch_counts_them() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from seedbed.nn.layout import Layout

    config = replace(gpt2(), num_layers=2)
    network = build(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.output(network(torch.zeros(T, dtype=torch.int64), Layout.of([T])))
    ours = forward_flops(network, row_tokens=T)
    matmuls = T * (sum(ours.values()) - ours["scores"])
    # torch counts all T keys of a row, we those that a token attends to.
    scores = 2 * 4 * T * T * D
    assert counter.get_total_flops() == pytest.approx(matmuls + scores, rel=1e-6)


def test_training_is_three_passes_and_recomputes_all_but_the_output() -> None:
    network = build(gpt2(), "meta")
    forward = forward_flops(network, row_tokens=T)
    once = sum(forward.values())
    assert training_flops(network, num_tokens=7, row_tokens=T) == pytest.approx(7 * 3 * once)
    again = training_flops(network, num_tokens=7, row_tokens=T, recomputes=True)
    assert again == pytest.approx(7 * (4 * once - forward["output"]))


def train_only(network: Network, *parts: str) -> Network:
    """Freeze all parameters but those whose name contains one of `parts`."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return network


@pytest.mark.parametrize("parts", ["", "blocks.2.", "blocks.1.", "embed", "attn.out", "unembed", "cross.kv"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_flops_of_frozen_networks_as_torch_counts_them(name: str, parts: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from seedbed.nn.layout import Layout

    network = train_only(build(replace(family(name).sized(D, L), vocab_size=V)), parts)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return  # the family has no such part
    initialize(network, torch.Generator().manual_seed(0))
    ids, layout = torch.arange(T), Layout.of([T])
    both = network.config.shape == "encoder-decoder"
    source = {"source": ids, "source_layout": layout} if both else {}
    with FlopCounterMode(display=False) as counter:
        network.output(network(ids, layout, **source)).sum().backward()
    counted = counter.get_flop_counts()["Global"]
    matmuls = sum(flops for call, flops in counted.items() if str(call) in ("aten.mm", "aten.addmm"))
    # Training alone, without the scores, which torch does not count on a CPU.
    num_tokens = T * (1 + both)
    ours = training_flops(network, num_tokens=num_tokens, row_tokens=T)
    scores = forward_flops(network, row_tokens=T)["scores"]
    without_scores = ours - num_tokens * scores - score_gradients(network, num_tokens)
    assert without_scores == pytest.approx(matmuls, rel=1e-9)


def score_gradients(network: Network, num_tokens: int) -> float:
    """FLOPs of the scores' gradients: autograd knows of which attention it needs any."""
    found = 0.0
    both = network.config.shape == "encoder-decoder"
    for name, module in network.named_modules():
        if isinstance(module, Attention) and gradients_needed(network)[f"{name}.out"]:
            keys = T if name.startswith("encoder") or name.endswith("cross") else (T + 1) / 2
            found += num_tokens * (0.5 if both else 1) * 2 * 4 * keys * D
    return found


def test_the_last_layer_alone_costs_its_own_backward_pass_and_the_output() -> None:
    network = train_only(build(gpt2(), "meta"), f"blocks.{L - 1}.")
    forward = forward_flops(network, row_tokens=T)
    layer = {part: flops / L for part, flops in forward.items()}
    # Its first norm needs the gradient of what q, k and v read; the output's weight is frozen.
    backward = 2 * (layer["attention"] + layer["scores"] + layer["feed_forward"]) + forward["output"]
    expected = sum(forward.values()) + backward
    assert training_flops(network, num_tokens=7, row_tokens=T) == pytest.approx(7 * expected)
    again = expected + layer["attention"] + layer["scores"] + layer["feed_forward"]
    assert training_flops(network, num_tokens=7, row_tokens=T, recomputes=True) == pytest.approx(7 * again)


def test_a_recurrent_layer_always_needs_the_gradient_of_its_own_states() -> None:
    config = replace(family("lstm").sized(D, L), vocab_size=V)
    network = train_only(build(config, "meta"), "layers.1.")
    matmul, output = 2 * 4 * D * D, 2 * V * D
    forward = 2 * L * matmul + output
    # The second of three layers: two weights and the states; the third: its input and its states.
    assert training_flops(network, num_tokens=1, row_tokens=T) == forward + 5 * matmul + output
    train_only(network, "layers.1.recur")
    assert training_flops(network, num_tokens=1, row_tokens=T) == forward + 4 * matmul + output
