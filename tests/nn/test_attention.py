"""Which attention calls are made, with which masks, and what dropout does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.nn.variants import words
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from seedbed.models.transformer import Transformer
from seedbed.nn.attention import Attention, AttentionContext
from seedbed.nn.block import Block
from seedbed.nn.config import ModelConfig, PositionConfig
from seedbed.nn.layout import Layout

NUM_LAYERS = 2
BIASED = ("alibi", "buckets")  # positions that are added to the scores


@dataclass(frozen=True)
class Call:
    """One call of the fused kernel."""

    shape: tuple[int, int, int]  # (B, T, S)
    mask: Tensor | None
    is_causal: bool
    dropout: float


class Spy(TorchFunctionMode):
    """Records every attention call and every dropout in its scope."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.dropouts: list[float] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            q, k, _ = args
            shape = (q.size(0), q.size(2), k.size(2))
            mask, causal = kwargs.get("attn_mask"), kwargs.get("is_causal", False)
            self.calls.append(Call(shape, mask, causal, kwargs.get("dropout_p", 0.0)))
        if func is F.dropout and kwargs["training"]:
            self.dropouts.append(kwargs["p"])
        return func(*args, **kwargs)

    def shapes(self) -> list[tuple[int, int, int]]:
        """Of the first layer; the others have the same."""
        per_layer = len(self.calls) // NUM_LAYERS
        shapes = [call.shape for call in self.calls]
        assert shapes == shapes[:per_layer] * NUM_LAYERS
        return shapes[:per_layer]


def make(**changes: Any) -> Transformer:
    fields: dict[str, Any] = {"shape": "decoder", "vocab_size": 31, "d_model": 16, "d_ff": 32, "num_heads": 2}
    module = Transformer(ModelConfig(family="gpt2", num_layers=NUM_LAYERS, **fields | changes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return module


def forward(module: Transformer, lengths: list[int], **source: Any) -> Spy:
    with Spy() as spy:
        module(torch.arange(sum(lengths)), Layout.of(lengths), **source)
    return spy


@torch.no_grad()
def extend(module: Transformer, *steps: list[int], slack: int | None = None, **source: Any) -> Spy:
    """Append steps in order -> the calls of the last."""
    assert module.decoder is not None
    module.decoder.slack = module.decoder.slack if slack is None else slack
    state = module.start(len(steps[0]), 64, **source)
    for counts in steps:
        with Spy() as spy:
            module.extend(state, torch.arange(sum(counts)), state.layout(counts))
    return spy


@pytest.mark.parametrize("kind", [kind for kind in words(PositionConfig, "kind") if kind not in BIASED])
def test_a_forward_pass_builds_no_mask(kind: Any) -> None:
    """Neighbours of one length are one call with the kernel's causal mask."""
    spy = forward(make(position=PositionConfig(kind=kind)), [5, 5, 7, 1, 1, 1, 5])
    assert spy.shapes() == [(2, 5, 5), (1, 7, 7), (3, 1, 1), (1, 5, 5)]
    assert all(call.mask is None for call in spy.calls)
    assert all(call.is_causal == (call.shape[1] > 1) for call in spy.calls)


def test_a_prompt_and_even_steps_build_no_mask() -> None:
    module = make()
    for steps in ([[6, 6, 6]], [[6, 6, 6], [1, 1, 1]], [[4, 6], [2, 0], [1, 1]]):
        spy = extend(module, *steps)
        assert len(spy.shapes()) == 1 and all(call.mask is None for call in spy.calls)
        assert all(call.is_causal == (call.shape[1] > 1) for call in spy.calls)


def test_steps_of_rows_of_many_lengths_are_one_padded_call_or_one_each() -> None:
    padded = extend(make(), [3, 9, 4], [1, 1, 1])
    assert padded.shapes() == [(3, 1, 10)]
    assert all(call.mask is not None and call.mask.dtype == torch.bool for call in padded.calls)
    assert [call.mask.sum(-1).flatten().tolist() for call in padded.calls] == [[4, 10, 5]] * NUM_LAYERS
    apart = extend(make(), [3, 9, 4], [1, 1, 1], slack=0)
    assert apart.shapes() == [(1, 1, 4), (1, 1, 10), (1, 1, 5)]
    assert all(call.mask is None for call in apart.calls)


def test_a_chunk_after_a_past_builds_one_mask_for_all_layers() -> None:
    """The kernel's causal mask is aligned at the top left: wrong after earlier keys."""
    spy = extend(make(), [4, 4], [3, 3])
    assert spy.shapes() == [(2, 3, 7)]
    masks = [call.mask for call in spy.calls]
    assert masks[0] is not None and masks[0].shape == (1, 1, 3, 7)
    assert torch.equal(masks[0][0, 0], torch.ones(3, 7).tril(4).bool())
    assert masks[1] is masks[0]


@pytest.mark.parametrize("kind", BIASED)
def test_biases_are_built_once_for_all_layers(kind: Any) -> None:
    spy = forward(make(position=PositionConfig(kind=kind)), [5, 5, 3])
    assert spy.shapes() == [(2, 5, 5), (1, 3, 3)]
    masks = [call.mask for call in spy.calls]
    assert [mask.shape for mask in masks if mask is not None] == [(1, 2, 5, 5), (1, 2, 3, 3)] * NUM_LAYERS
    assert masks[2] is masks[0] and masks[3] is masks[1]
    assert not any(call.is_causal for call in spy.calls)


def test_an_encoder_and_cross_attention_build_no_mask() -> None:
    module = make(shape="encoder-decoder")
    source = {"source": torch.arange(13), "source_layout": Layout.of([4, 4, 5])}
    spy = forward(module, [2, 2, 6], **source)
    assert all(call.mask is None for call in spy.calls)
    causal = [call.shape for call in spy.calls if call.is_causal]
    assert causal == [(2, 2, 2), (1, 6, 6)] * NUM_LAYERS  # the decoder's own rows alone
    like = {"source": torch.arange(12), "source_layout": Layout.of([4, 4, 4])}
    assert all(call.mask is None for call in extend(module, [2, 2, 2], [1, 1, 1], **like).calls)
    ragged = extend(module, [2, 2, 2], [1, 1, 1], **source)
    assert [call.shape for call in ragged.calls] == [(3, 1, 3), (3, 1, 5)] * NUM_LAYERS
    assert [call.mask is None for call in ragged.calls] == [True, False] * NUM_LAYERS


# ---- dropout


def test_dropout_is_where_the_papers_have_it() -> None:
    """After the embedding, in the attention's weights, at the end of each branch; nowhere in evaluation."""
    module = make(dropout=0.25)
    spy = forward(module, [5, 5])
    assert not spy.dropouts and [call.dropout for call in spy.calls] == [0.0] * NUM_LAYERS
    plain = make()
    with torch.no_grad():
        ids, layout = torch.arange(10), Layout.of([5, 5])
        assert torch.equal(module(ids, layout), plain(ids, layout))
    spy = forward(module.train(), [5, 5])
    assert spy.dropouts == [0.25] * (1 + 2 * NUM_LAYERS)
    assert [call.dropout for call in spy.calls] == [0.25] * NUM_LAYERS


@torch.no_grad()
def fill(module: nn.Module, value: Callable[[str], float]) -> None:
    for name, parameter in module.named_parameters():
        parameter.fill_(value(name))


@torch.no_grad()
def test_a_branch_is_dropped_and_scaled() -> None:
    """With both branches constantly 1, a number is 0, 1 or 2 times 1 / (1 - p)."""
    p, num_rows = 0.3, 400
    config = ModelConfig(
        family="gpt2", shape="decoder", vocab_size=1, d_model=16, num_layers=1, num_heads=2, d_ff=8, dropout=p
    )
    block = Block(config, 0, cross=False).train()
    fill(block, lambda name: float(name in ("attn.out.bias", "ffn.down.bias")))
    layout = Layout.of([1] * num_rows)
    view = AttentionContext(
        layout=layout, groups=layout.groups(layout.totals, layout.slots), biases=[None], causal=True
    )
    torch.manual_seed(0)
    y = block(torch.zeros(num_rows, 16), view, None) * (1 - p)
    expected = {0: p * p, 1: 2 * p * (1 - p), 2: (1 - p) ** 2}
    for value, probability in expected.items():
        share = ((y - value).abs() < 1e-5).float().mean().item()
        assert abs(share - probability) < 5 * (probability * (1 - probability) / y.numel()) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(y, block(torch.zeros(num_rows, 16), view, None) * (1 - p))


@torch.no_grad()
def test_attention_weights_are_dropped_and_scaled() -> None:
    """Queries and keys of zero read the mean of T equal values: 1 with a variance of p / (1 - p) / T."""
    p, t, num_rows = 0.3, 64, 20
    config = ModelConfig(
        family="gpt2", shape="encoder", vocab_size=1, d_model=2, num_layers=1, num_heads=2, d_ff=8, dropout=p
    )
    attention = Attention(config, 0, cross=False).train()
    fill(attention, lambda name: 0.0)
    assert attention.qkv is not None
    attention.qkv.bias[4:] = 1
    attention.out.weight.copy_(torch.eye(2))
    layout = Layout.of([t] * num_rows)
    groups = layout.groups(layout.totals, layout.slots)
    view = AttentionContext(layout=layout, groups=groups, biases=[None], causal=False)
    torch.manual_seed(0)
    y = attention(torch.zeros(t * num_rows, 2), view)
    variance = p / (1 - p) / t
    assert abs(y.mean() - 1) < 5 * (variance / y.numel()) ** 0.5
    assert abs(y.var() / variance - 1) < 0.2
    assert torch.allclose(attention.eval()(torch.zeros(t * num_rows, 2), view), torch.ones(()))
