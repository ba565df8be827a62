"""Recurrent networks against their papers: every gate written out, weights as published."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.nn.variants import words
from torch import Tensor, nn

from seedbed.models.network import build, export_tensors, family, initialize, preset
from seedbed.nn.config import RecurrentConfig
from seedbed.nn.layout import Layout

VOCAB_SIZE, D_MODEL, NUM_LAYERS = 101, 64, 3


@pytest.fixture(params=[cell + tied for cell in words(RecurrentConfig, "cell") for tied in ("", " tied")])
def module(request: pytest.FixtureRequest, fill_randomly: Callable[..., None]) -> Any:
    name, _, tied = request.param.partition(" ")
    config = replace(
        family(name).sized(D_MODEL, NUM_LAYERS), vocab_size=VOCAB_SIZE, tie_embeddings=bool(tied)
    )
    network = build(config).eval()
    initialize(network, torch.Generator().manual_seed(0))
    fill_randomly(network)
    return network


@pytest.mark.parametrize("name", ["lstm:small", "gru:medium"])
def test_recurrent_weights_are_uniform_in_the_published_range(name: str) -> None:
    module, limit = build(preset(name)), {"small": 0.1, "medium": 0.05}[name.split(":")[1]]
    initialize(module, torch.Generator().manual_seed(0))
    for weight in module.parameters():
        error = 5 * limit / math.sqrt(weight.numel())
        assert weight.abs().max() <= limit and abs(weight.mean()) < error
        assert abs(weight.std() - limit / math.sqrt(3)) < error


def plain_step(w: dict[str, Tensor], layer: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """A step of the cell with these tensors, gate by gate, in float64: (M,) each."""
    read, recur = (
        (w[f"rnn.weight_{k}_l{layer}"] @ v + w[f"rnn.bias_{k}_l{layer}"]).split(len(x))
        for k, v in (("ih", x), ("hh", h))
    )
    if len(read) == 4:  # Hochreiter and Schmidhuber 1997, with forget gates
        i, f, g, o = (a + b for a, b in zip(read, recur, strict=True))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    r, z = (torch.sigmoid(a + b) for a, b in zip(read[:2], recur[:2], strict=True))  # Cho et al. 2014
    return (1 - z) * torch.tanh(read[2] + r * recur[2]) + z * h, c


@torch.no_grad()
def test_logits_equal_plain_steps(module: Any) -> None:
    w = {name: tensor.double() for name, tensor in export_tensors(module).items()}
    ids = torch.randint(VOCAB_SIZE, (13,), generator=torch.Generator().manual_seed(0))
    h, c = torch.zeros(2, NUM_LAYERS, D_MODEL, dtype=torch.double)
    expected = []
    for token in ids:
        x = w["embed.weight"][token]
        for layer in range(NUM_LAYERS):
            h[layer], c[layer] = plain_step(w, layer, x, h[layer], c[layer])
            x = h[layer].clone()
        expected.append(w.get("unembed.weight", w["embed.weight"]) @ x + w.get("unembed.bias", 0))
    logits = module.output(module(ids, Layout.of([13])))
    assert (logits - torch.stack(expected)).abs().max() <= 1e-5


class Replacement(nn.Module):
    """Replaces a projection, as an adapter or packed weights do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.num_calls = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        return self.inner(x)


def test_a_hook_on_a_projection_is_called(module: Any) -> None:
    """The fused kernel would ignore it, so a layer with a hook runs step by step."""
    ids, layout = torch.arange(30), Layout.of([7, 12, 0, 11])
    plain, seen = module(ids, layout), list[int]()
    handle = module.layers[1].read.register_forward_hook(lambda part, given, y: seen.append(len(y)))
    assert (module(ids, layout) - plain).abs().max() < 1e-5
    handle.remove()
    module(ids, layout)
    assert seen == [30]


def test_a_replaced_projection_is_used(module: Any) -> None:
    """A layer whose projections are not plain runs step by step, with the same result."""
    ids, layout = torch.arange(30), Layout.of([7, 12, 0, 11])
    plain = module(ids, layout)
    replacement = module.layers[1].recur = Replacement(module.layers[1].recur)
    assert (module(ids, layout) - plain).abs().max() < 1e-5
    assert replacement.num_calls == 12
