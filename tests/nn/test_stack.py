"""Networks of every shape: recomputed activations, other precisions, and what surrounds the blocks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.nn.variants import variants
from torch import Tensor

from seedbed.models.network import FAMILIES, build, family
from seedbed.nn.config import POST, HeadConfig, ModelConfig, PositionConfig
from seedbed.nn.layout import Layout

LENGTHS = [7, 7, 3]
BASE = ModelConfig(
    family="gpt2", shape="decoder", vocab_size=40, d_model=32, num_layers=3, num_heads=4, d_ff=64, dropout=0.2
)
NETWORKS: dict[str, Any] = {
    **{config.shape: config for config in variants(BASE, "shape").values()},
    **variants(BASE, "position.kind", "residual", "attention.qk_norm", "gated_ffn"),
    "masked": replace(BASE, shape="encoder", residual=POST, segment_types=2, head=HeadConfig(kind="mlm")),
    "encoder-decoder, buckets": replace(
        BASE, shape="encoder-decoder", position=PositionConfig(kind="buckets")
    ),
    "grouped": BASE.with_attention(num_kv_heads=1),
    # Those without a reference in another package.
    **{
        name: replace(family(name).sized(32, 3), vocab_size=40, dropout=0.2)
        for name in FAMILIES.names()
        if not family(name).architectures
    },
}
SHAPES = {name: config.shape for name, config in NETWORKS.items()}
DECODERS = [name for name, shape in SHAPES.items() if shape == "decoder"]


def make(name: str, **changes: Any) -> Any:
    module = build(replace(NETWORKS[name], **changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return module


def run(module: Any, name: str) -> Tensor:
    ids, layout = torch.arange(17), Layout.of(LENGTHS)
    source = {"source": ids.flip(0), "source_layout": layout} if SHAPES[name] == "encoder-decoder" else {}
    return module.output(module(ids, layout, **source))


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    """Bit for bit, dropout included, with fewer stored tensors."""
    module = make(name).train()

    def gradients(*, checkpointing: bool) -> tuple[list[Tensor], int]:
        num_saved = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal num_saved
            num_saved += 1
            return tensor

        module.set_activation_checkpointing(checkpointing)
        module.zero_grad()
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = run(module, name).square().sum()
        loss.backward()
        return [p.grad for p in module.parameters() if p.grad is not None], num_saved

    plain, num_plain = gradients(checkpointing=False)
    again, num_again = gradients(checkpointing=True)
    assert len(plain) == len(again) > 5 and sum(g.norm() for g in plain) > 1
    assert all(map(torch.equal, plain, again))
    assert num_again < 0.8 * num_plain
    other = gradients(checkpointing=False)[0]
    assert all(map(torch.equal, plain, other))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_autocast_stays_near_float32(name: str) -> None:
    module = make(name).eval()
    exact = run(module, name)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(module, name)
    error = (rounded.float() - exact).norm() / exact.norm()
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("cast", ["autocast", "bfloat16", "float16", "float64"])
@torch.no_grad()
def test_decoding_works_in_every_precision(name: str, cast: str) -> None:
    module = make(name, dropout=0.0).eval()
    ids = torch.arange(17)
    exact = module(ids, Layout.of(LENGTHS))
    if cast != "autocast":
        module = module.to(getattr(torch, cast))
    with torch.autocast("cpu", torch.bfloat16, enabled=cast == "autocast"):
        state = module.start(3, 8)
        rows = list(ids.split(LENGTHS))
        outputs: list[list[Tensor]] = [[], [], []]
        for counts in ([4, 6, 1], [2, 0, 1], [1, 1, 1]):
            read = [row[n : n + c] for row, n, c in zip(rows, state.lengths, counts, strict=True)]
            hidden = module.extend(state, torch.cat(read), state.layout(counts))
            for output, part in zip(outputs, hidden.split(counts), strict=True):
                output.append(part)
    found = torch.cat([part for output in outputs for part in output])
    error = (found.double() - exact.double()).norm() / exact.norm()
    assert error < {"float64": 1e-5, "float16": 0.02}.get(cast, 0.1)


@torch.no_grad()
def test_logits_are_capped() -> None:
    module = make("decoder", dropout=0.0).eval()
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    plain = module.output(hidden)
    module.config = replace(module.config, logit_cap=1.5)
    assert plain.abs().max() > 2
    assert torch.allclose(module.output(hidden), 1.5 * torch.tanh(plain / 1.5), atol=1e-6)
    assert module.output(hidden).abs().max() < 1.5


@torch.no_grad()
def test_a_cast_leaves_the_tables_of_positions_exact() -> None:
    found = set()
    for kind in variants(BASE, "position.kind").values():
        module: Any = build(kind)
        before = {name: table.clone() for name, table in module.decoder.named_buffers()}
        module.half().to(torch.bfloat16).double()
        assert all(torch.equal(getattr(module.decoder, name), table) for name, table in before.items())
        assert not set(before) & set(module.decoder.state_dict())
        found |= set(before)
    assert found >= {"frequencies", "sinusoids", "slopes"}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_tensor_is_on_the_device_of_the_network(name: str) -> None:
    """The meta device in place of a GPU: mixing it with the CPU is an error too."""
    module = build(NETWORKS[name], "meta").eval()
    ids, layout = torch.arange(17, device="meta"), Layout.of(LENGTHS, device=torch.device("meta"))
    source = {"source": ids, "source_layout": layout} if SHAPES[name] == "encoder-decoder" else {}
    logits = module.output(module(ids, layout, **source))
    assert logits.device.type == "meta" and logits.shape == (17, 40)
    if SHAPES[name] == "encoder":
        return
    state = module.start(3, 12, **source)
    for counts in (LENGTHS, [2, 0, 1], [1, 1, 1]):
        hidden = module.extend(state, torch.arange(sum(counts), device="meta"), state.layout(counts))
        assert hidden.shape == (sum(counts), 32)


def test_a_tied_table_gets_the_gradient_of_both_uses() -> None:
    """For the hidden states of the pass, and for copies without its shared table."""
    module = make("decoder", tie_embeddings=True, dropout=0.0)
    ids, layout = torch.tensor([1, 2, 2, 5, 3]), Layout.of([3, 2])
    gradients = []
    for through_copy in (False, True):
        module.zero_grad()
        hidden = module(ids, layout)
        module.output(hidden.clone() if through_copy else hidden).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in module.parameters()])
    for direct, copied in zip(*gradients, strict=True):
        torch.testing.assert_close(direct, copied, rtol=1e-6, atol=1e-6)


def test_two_passes_may_have_their_backward_passes_afterwards() -> None:
    module = make("decoder", tie_embeddings=True, dropout=0.0)
    ids, layout = torch.tensor([1, 2, 2, 5, 3]), Layout.of([3, 2])
    first, second = module(ids, layout), module(ids.flip(0), layout)
    module.output(first).sum().backward()
    module.output(second).sum().backward()
    twice = module.embed.weight.grad.clone()
    module.zero_grad()
    total = module.output(module(ids, layout)).sum() + module.output(module(ids.flip(0), layout)).sum()
    total.backward()
    torch.testing.assert_close(module.embed.weight.grad, twice, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["learned", "rotary", "alibi", "buckets"])
def test_the_window_of_an_encoder_reaches_to_both_sides(kind: str) -> None:
    """It turned causal once a text was longer than the window."""
    config = replace(BASE, shape="encoder", num_layers=1, dropout=0.0, position=PositionConfig(kind=kind))
    module = build(config.with_attention(window=4)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    for length in (3, 4, 5, 12):
        ids = torch.arange(length)
        layout = Layout.of([length])
        with torch.no_grad():
            whole = module(ids, layout)
            for changed in range(length):
                other = module(ids.index_fill(0, torch.tensor([changed]), 39), layout)
                differs = (whole - other).abs().amax(1) > 1e-6
                reached = [abs(changed - position) < 4 for position in range(length)]
                assert differs.tolist() == reached
