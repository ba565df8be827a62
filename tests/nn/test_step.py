"""The bare calls of a decoding step: the same numbers as the modules, and no hook is passed over."""

from dataclasses import replace

import pytest
import torch
from tests.nn.variants import variants
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.models.network import FAMILIES, family
from seedbed.models.transformer import Transformer
from seedbed.nn.config import ModelConfig
from seedbed.nn.linear import LARGE_NUMBERS, few_tokens_product, product, takes_few

BASE = ModelConfig(
    family="gpt2", shape="decoder", vocab_size=31, d_model=32, num_layers=2, num_heads=4, d_ff=48
)


def of_family(name: str) -> ModelConfig | None:
    """A family's own proportions at the base's size, two heads to one of keys; None if it is no decoder."""
    config = replace(family(name).sized(32, 2), vocab_size=31)
    if not isinstance(config, ModelConfig) or config.shape != "decoder":
        return None
    return replace(config, num_heads=4).with_attention(num_kv_heads=2, head_dim=8)


OF_FAMILIES = {name: config for name in FAMILIES.names() if (config := of_family(name)) is not None}
VARIANTS = {name: config for name, config in variants(BASE).items() if config.shape == "decoder"}
SHAPES = OF_FAMILIES | VARIANTS


def make(name: str) -> Transformer:
    module = Transformer(SHAPES[name]).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return module


@torch.no_grad()
def decode(module: Transformer, prompts: list[int], num_steps: int) -> Tensor:
    """Hidden states of the steps after prompts of these lengths."""
    state = module.start(len(prompts), max(prompts) + num_steps)
    module.extend(state, torch.arange(sum(prompts)) % 31, state.layout(prompts))
    ids = torch.arange(len(prompts))
    steps = [module.extend(state, ids + i, state.layout([1] * len(prompts))) for i in range(num_steps)]
    return torch.stack(steps)


@pytest.mark.parametrize("prompts", [[5], [5, 5, 5], [3, 7, 5]], ids=["one", "even", "ragged"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_step_gives_what_the_modules_give(name: str, prompts: list[int]) -> None:
    module = make(name)
    bare = decode(module, prompts, 4)
    module.decoder.blocks[0].register_forward_hook(lambda *_: None)  # now the modules must run
    torch.testing.assert_close(decode(module, prompts, 4), bare, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", ["decoder.blocks.1", "decoder.blocks.0.attn", "decoder.blocks.1.ffn.down"])
def test_a_hook_is_called_in_every_step(path: str) -> None:
    module = make("gpt2")
    calls: list[nn.Module] = []
    module.get_submodule(path).register_forward_hook(lambda part, *_: calls.append(part))
    decode(module, [5], 4)
    assert len(calls) == 1 + 4


def test_a_replaced_projection_is_used() -> None:
    """Whatever stands where a projection was, as adapters and quantized weights do."""
    module, changed = make("gpt2"), make("gpt2")

    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = 2 * self.inner(x)
            return y

    before = decode(module, [5], 3)
    changed.decoder.blocks[1].attn.out = Doubled(changed.decoder.blocks[1].attn.out)
    with torch.no_grad():
        out = module.decoder.blocks[1].attn.out
        out.weight *= 2
        out.bias *= 2
    assert not torch.allclose(decode(module, [5], 3), before)
    torch.testing.assert_close(decode(changed, [5], 3), decode(module, [5], 3), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_product_of_a_few_tokens_is_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1024, LARGE_NUMBERS // 1024, generator=generator)
    bias = torch.randn(1024, generator=generator)
    for num_tokens in (1, 4, 8, 32, 33):
        x = torch.randn(num_tokens, weight.size(1), generator=generator)
        exact = F.linear(x.double(), weight.double(), bias.double())
        for given in (product(x, weight, bias), few_tokens_product(x, weight, bias)):
            torch.testing.assert_close(given.double(), exact, rtol=1e-4, atol=1e-4)


def test_gradients_flow_whatever_the_number_of_tokens() -> None:
    weight = torch.randn(1024, LARGE_NUMBERS // 1024, requires_grad=True)
    x = torch.randn(8, weight.size(1))
    assert not takes_few(8, x)
    product(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand_as(weight))
