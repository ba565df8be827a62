"""LoRA: its formula, its scale, its targets and its bad input."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.models.reference import randomize, tiny
from torch import Tensor, nn

from seedbed.base.errors import ConfigError
from seedbed.models.adapter import matching_sites, sites
from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.nn.linear import Projection, linear_modules
from seedbed.peft._low_rank import LowRank, Pair
from seedbed.peft.lora import Lora, Settings

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def network(name: str, **changes: Any) -> Any:
    module = build(tiny(name, **changes)).eval()
    initialize(module, torch.Generator().manual_seed(0))
    randomize(module, std=0.1)
    return module


def wrappers(module: nn.Module) -> dict[str, LowRank]:
    return {path: one for path, one in linear_modules(module) if isinstance(one, LowRank)}


def applied(name: str, **settings: Any) -> Any:
    module = network(name)
    Lora(Settings(**settings)).apply(module, torch.Generator().manual_seed(1))
    return module


def layer(dtype: torch.dtype = torch.float64) -> tuple[LowRank, Tensor]:
    """One over q and v of a projection of three parts, with ranks 2 and 3; an input (5, 8)."""
    torch.manual_seed(0)
    base = Projection(8, {"q": 6, "k": 4, "v": 4}, bias=True)
    module = network("llama")
    q, v = (site for site in sites(module) if site.parts in (("q",), ("v",)) and ".0." in site.path)
    wrapper = LowRank(base, [Pair(q, 2, 0.7), Pair(v, 3, 1.5)], dropout=0.0).to(dtype)
    for parameter in wrapper.parameters():
        nn.init.normal_(parameter)
    base.requires_grad_(False)
    return wrapper, torch.randn(5, 8, dtype=dtype, requires_grad=True)


def plain(wrapper: LowRank, x: Tensor) -> Tensor:
    """The formula of the paper, part by part."""
    y = nn.functional.linear(x, wrapper.base.weight, wrapper.base.bias)  # type: ignore[arg-type]
    q = 0.7 * x @ wrapper.down[:2].T @ wrapper.up[0].T
    v = 1.5 * x @ wrapper.down[2:].T @ wrapper.up[1].T
    return y + torch.cat([q, torch.zeros(len(x), 4, dtype=x.dtype), v], 1)


def test_values_and_gradients_are_those_of_the_plain_formula() -> None:
    wrapper, x = layer()
    weight = torch.randn(5, 14, dtype=x.dtype)
    found, expected = [], []
    for call, results in ((wrapper, found), (lambda x: plain(wrapper, x), expected)):
        x.grad = None
        wrapper.zero_grad()
        y = call(x)
        (y * weight).sum().backward()
        results += [y.detach(), x.grad, wrapper.down.grad, *(up.grad for up in wrapper.up)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    merged, bias = wrapper.dense()
    torch.testing.assert_close(nn.functional.linear(x, merged, bias), plain(wrapper, x), **CLOSE)
    assert wrapper.base.weight.grad is None  # type: ignore[union-attr]


def test_gradients_are_those_of_finite_differences() -> None:
    wrapper, x = layer()
    own = [wrapper.down, *wrapper.up]
    assert torch.autograd.gradcheck(lambda *_: wrapper(x), (x, *own))


def test_the_start_is_that_of_the_authors() -> None:
    for wrapper in wrappers(applied("llama", rank=8)).values():
        limit = 1 / math.sqrt(wrapper.in_features)
        assert all(not up.any() for up in wrapper.up)
        assert 0.9 * limit < wrapper.down.abs().max() <= limit
    one, other = (wrappers(applied("gpt2", rank=4)) for _ in range(2))
    assert all(torch.equal(one[path].down, other[path].down) for path in one)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 32 / 4), (True, 32 / 2)])
def test_the_scale_is_alpha_over_the_rank_or_its_root(rslora: bool, scale: float) -> None:
    module = applied("gpt2", rank=4, rslora=rslora)
    assert {pair.scale for wrapper in wrappers(module).values() for pair in wrapper.pairs} == {scale}


@pytest.mark.parametrize(
    ("name", "targets", "keys"),
    [
        ("llama", "q, v", {"q", "v"}),
        ("llama", ["q_proj", "down_proj"], {"q", "down"}),
        ("llama", "self_attn.*", {"q", "k", "v", "out"}),
        ("llama", "model.layers.1.mlp.*", {"gate", "up", "down"}),
        ("gpt2", "c_attn", {"qkv"}),
        ("gpt2", "all", {"qkv", "out", "up", "down"}),
        ("bloom", "query_key_value", {"qkv"}),
        ("t5", "EncDecAttention.q", {"q"}),
    ],
)
def test_targets_are_names_and_patterns(name: str, targets: Any, keys: set[str]) -> None:
    given = targets if isinstance(targets, str) else tuple(targets)
    found = matching_sites(network(name), Settings(targets=given).targets)
    assert {"".join(site.parts) for site in found} == keys
    adapted = wrappers(applied(name, rank=2, targets=given))
    assert sum(len(one.pairs) for one in adapted.values()) == len(found)


def test_a_fused_projection_has_one_pair_over_the_whole() -> None:
    for name, pairs, rows in (("gpt2", 1, 192), ("bloom", 1, 192), ("llama", 3, 64)):
        wrapper = next(one for path, one in wrappers(applied(name, rank=2)).items() if path.endswith("qkv"))
        assert len(wrapper.pairs) == pairs and wrapper.up[0].shape == (rows, 2)


def test_dropout_acts_in_training_only() -> None:
    module = applied("gpt2", rank=4, dropout=0.5)
    with torch.no_grad():
        for one in wrappers(module).values():
            one.up[0].normal_()
        ids, layout = torch.arange(5), Layout.of([5])
        first, second = (module(ids, layout) for _ in range(2))
        assert torch.equal(first, second)
        module.train()
        first, second = (module(ids, layout) for _ in range(2))
        assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rank": 0}, r"peft\.rank=0 is not allowed: choose 1 or more"),
        ({"alpha": 0}, r"peft\.alpha=0 is not allowed"),
        ({"alpha": math.nan}, r"peft\.alpha=nan is not allowed"),
        ({"dropout": 1.0}, r"peft\.dropout=1\.0 is not allowed"),
        ({"targets": " , "}, r"peft\.targets is empty"),
        ({"targets": ()}, r"peft\.targets is empty"),
        ({"targets": "query"}, r"peft\.targets='query' matches no projection of this gpt2; allowed: all, or"),
        ({"targets": "wte"}, r"peft\.targets='wte' matches no projection"),
        ({"rank": 65}, r"peft\.rank=65 is larger than the matrix of .*; choose 1 to 64"),
    ],
)
def test_bad_input_is_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Lora(Settings(**values)).apply(network("gpt2"), torch.Generator())
    assert "\n" not in str(caught.value)


def test_a_head_that_trains_whole_is_no_target() -> None:
    config = tiny("bert")
    module: Any = build(replace(config, head=family("bert").labelled("classification", ("a", "b"))))
    with pytest.raises(ConfigError, match="matches no projection"):
        matching_sites(module, "classifier")


def test_a_second_adapter_is_refused() -> None:
    module = applied("gpt2", rank=2)
    with pytest.raises(ConfigError, match="has an adapter already"):
        Lora(Settings(rank=2)).apply(module, torch.Generator())
