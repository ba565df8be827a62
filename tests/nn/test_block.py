"""Where a block has its norms, and for which places a decoding step has a fast path."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.nn.variants import RESIDUALS
from torch import Tensor, nn

from seedbed.nn.attention import AttentionContext
from seedbed.nn.block import Block
from seedbed.nn.config import PRE, ModelConfig, NormPlace, ResidualConfig
from seedbed.nn.layout import Layout
from seedbed.nn.matmul import linear_call
from seedbed.nn.step import LayerSteps

Branch = Callable[[Tensor], Tensor]


def make(residual: ResidualConfig, *, cross: bool) -> tuple[Block, AttentionContext]:
    """A block, and the context of two rows of three tokens."""
    config = ModelConfig(
        family="gpt2",
        shape="decoder",
        vocab_size=1,
        d_model=8,
        num_layers=1,
        num_heads=2,
        d_ff=8,
        residual=residual,
    )
    block = Block(config, 0, cross=cross)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(generator=generator)
    layout = Layout.of([3, 3])
    return block, AttentionContext(
        layout=layout, groups=layout.groups(layout.totals, layout.slots), biases=[None], causal=True
    )


def written_out(x: Tensor, branches: list[Branch], norms: dict[NormPlace, nn.Module]) -> Tensor:
    """The formulas of the papers, one for each set of places."""
    n: Any = norms

    def total(h: Tensor) -> Any:
        return sum(branch(h) for branch in branches)

    formulas: dict[frozenset[NormPlace], Callable[[], Tensor]] = {
        frozenset({"input"}): lambda: x + total(n["input"](x)),
        frozenset({"sum"}): lambda: n["sum"](x + total(x)),
        frozenset({"input", "sum"}): lambda: n["sum"](x + total(n["input"](x))),
    }
    return formulas[frozenset(norms)]()


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("residual", RESIDUALS, ids=str)
@torch.no_grad()
def test_norms_are_where_the_config_says(residual: ResidualConfig, cross: bool) -> None:
    block, own = make(residual, cross=cross)
    generator = torch.Generator().manual_seed(1)
    x, memory = (torch.randn(6, 8, generator=generator) for _ in range(2))
    source = AttentionContext(
        layout=own.layout, groups=own.groups, biases=[None], causal=False, memory=memory
    )
    branches: dict[str, Branch] = {"attn": lambda h: block.attn(h, own), "ffn": block.ffn}
    if cross:
        branches = {"attn": branches["attn"], "cross": lambda h: block.cross(h, source), "ffn": block.ffn}
    modules = dict(block.named_children())

    def norms(name: str) -> dict[NormPlace, nn.Module]:
        """The first of a branch's norms has its short name, the others have their place in theirs."""
        first = residual.norms[:1]
        return {
            place: modules.pop(f"{name}_norm" if place in first else f"{name}_{place}_norm")
            for place in residual.norms
        }

    if residual.parallel:
        expected = written_out(x, list(branches.values()), norms("attn"))
    else:
        expected = x
        for name, branch in branches.items():
            expected = written_out(expected, [branch], norms(name))
    torch.testing.assert_close(block(x, own, source if cross else None), expected)
    assert set(modules) == set(branches)  # no norm is left over


@pytest.mark.parametrize("residual", RESIDUALS, ids=str)
def test_the_fast_path_is_for_norms_of_the_inputs_only(residual: ResidualConfig) -> None:
    block = make(residual, cross=False)[0].eval()
    assert bool(LayerSteps(nn.ModuleList([block]), linear_call).calls) == (residual == PRE)
