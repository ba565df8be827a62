"""The layers that represent all, and the stand-in made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from seedbed.base.runtime import Runtime
from seedbed.models.family import Network
from seedbed.models.network import FAMILIES, build, family
from seedbed.nn.config import EncoderConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import Projection
from seedbed.nn.linear import replace as replace_module
from seedbed.select.compute import forward_flops
from seedbed.select.layers import LayerSample, sample_layers, stand_in


def network(name: str, num_layers: int = 6, *, trains: str = "") -> Network:
    module = build(replace(family(name).sized(32, num_layers), vocab_size=100), "meta")
    for path, parameter in module.named_parameters():
        parameter.requires_grad_(trains in path)
    return module


class LowRank(nn.Module):
    """A matmul with two small ones beside it, as LoRA has it."""

    def __init__(self, base: Projection) -> None:
        super().__init__()
        self.base, self.parts, self.in_features = base, base.parts, base.in_features
        self.down = nn.Linear(base.in_features, 2, bias=False, device=base.weight.device)
        self.up = nn.Linear(2, base.out_features, bias=False, device=base.weight.device)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.base.dense()
        return weight + self.up.weight @ self.down.weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FAMILIES.names())
def test_one_and_three_layers_represent_all_of_their_kind(name: str) -> None:
    found = sample_layers(network(name))
    assert found == LayerSample((0, 1, 2), ((0,), (0, 1, 2)), added=(2,), others=(5,))
    assert found.extrapolate([10.0, 14.0]) == 10 + 2 * 5
    assert sample_layers(network(name, 3)) == LayerSample((0, 1, 2), ((0, 1, 2),))


def test_frozen_layers_are_of_another_kind_than_those_that_train_or_pass_gradients_on() -> None:
    last = sample_layers(network("gpt2", trains="blocks.5."))
    assert last == LayerSample((0, 1, 2, 5), ((0, 3), (0, 1, 2, 3)), added=(2,), others=(4,))
    middle = sample_layers(network("gpt2", 9, trains="blocks.4."))
    assert middle.levels == (0, 1, 2, 4, 5, 6, 7)
    assert middle.tries == ((0, 3, 4), (0, 1, 2, 3, 4), (0, 3, 4, 5, 6))
    assert middle.others == (3, 3)
    assert middle.extrapolate([10.0, 12.0, 16.0]) == 10 + 3 * 1 + 3 * 3


def test_an_encoder_of_another_depth_is_planned_with_its_own() -> None:
    config = replace(family("t5").sized(32, 4), vocab_size=100)
    encoder = EncoderConfig(num_layers=7, num_heads=config.num_heads, d_ff=config.d_ff)
    found = sample_layers(build(replace(config, encoder=encoder), "meta"))
    assert found == LayerSample((0, 1, 2, 4, 5, 6), ((0, 3), (0, 1, 2, 3), (0, 3, 4, 5)), (2, 2), (3, 2))


@pytest.mark.parametrize("name", FAMILIES.names())
def test_a_stand_in_computes_with_right_tables(name: str) -> None:
    module, real = network(name, trains="1"), build(replace(family(name).sized(32, 2), vocab_size=100))
    copy = stand_in(module, [0, 1], Runtime())
    tables = dict(copy.named_buffers())
    assert tables.keys() == dict(real.named_buffers()).keys()
    assert all(torch.equal(tables[path], table) for path, table in real.named_buffers())
    shapes = {path: parameter.shape for path, parameter in real.named_parameters()}
    assert {path: parameter.shape for path, parameter in copy.named_parameters()} == shapes
    trains = {path for path, parameter in copy.named_parameters() if parameter.requires_grad}
    assert trains == {path for path in shapes if "1" in path}
    tokens, layout = torch.arange(9), Layout.of([9])
    source = {"source": tokens, "source_layout": layout} if copy.config.shape == "encoder-decoder" else {}
    assert bool(copy.output(copy(tokens, layout, **source)).isfinite().all())
    assert all(parameter.is_meta for parameter in module.parameters())  # and the network keeps its layers
    assert sum("1" in path for path, _ in module.named_parameters()) == len(trains)


def test_a_replaced_module_is_counted_copied_and_distinguished() -> None:
    module = network("gpt2", 12, trains="nothing")
    plain = forward_flops(module, row_tokens=32)
    for number in range(8):
        path = f"decoder.blocks.{number}.attn.qkv"
        replace_module(module, path, LowRank(module.get_submodule(path)))
    more = forward_flops(module, row_tokens=32)
    assert more["attention"] - plain["attention"] == 8 * 2 * 2 * (32 + 96)
    # The first layer reads what needs no gradient; the last four have no matmuls beside their own.
    found = sample_layers(module)
    assert found.levels == (0, 1, 2, 3, 8, 9, 10)
    assert found.tries == ((0, 1, 4), (0, 1, 2, 3, 4), (0, 1, 4, 5, 6)) and found.others == (6, 3)
    copy = stand_in(module, [0, 8], Runtime())
    assert (
        type(copy.decoder.blocks[0].attn.qkv) is LowRank
        and not copy.decoder.blocks[0].attn.qkv.up.weight.is_meta
    )
    assert type(copy.decoder.blocks[1].attn.qkv) is Projection
