"""A decoding step of a layer as the bare calls that it makes.

Between two products a decoding step costs Python: at batch 1 a 12 x 768 decoder spent 3.4 ms of 22 beside its
products, with the calls below 2.3 (AVX-512, 2026-11-24). They are those of `Block`, `Attention` and
`FeedForward`, found once for a decode state instead of in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.attention import Attention
from seedbed.nn.block import Block, FeedForward
from seedbed.nn.config import PRE
from seedbed.nn.linear import Projection, is_hooked, one_token_product
from seedbed.nn.norms import RMSNorm
from seedbed.nn.positions import Angles
from seedbed.nn.state import Pair

# x (B, M), or (M,) with `one_token_product`; where the new keys and values go (B, 2 K, 1, D), all keys and
# values, the tokens' angles -> as x.
Step = Callable[[Tensor, Tensor, Pair, Angles | None], Tensor]


def layer_steps(blocks: Iterable[nn.Module], product: Callable[..., Tensor]) -> list[Step] | None:
    """The steps of all layers, None where one of them has none."""
    steps = [layer_step(block, product) for block in blocks]
    return [step for step in steps if step is not None] if all(steps) else None


def layer_step(block: nn.Module, product: Callable[..., Tensor]) -> Step | None:
    """A layer over one token of each row, in evaluation, with `product` for F.linear.

    None for a layer that only its modules can run: another residual, cross-attention, a hook on it.
    """
    if type(block) is not Block or block.residual != PRE or block.cross is not None:
        return None
    attn, ffn = block.attn, block.ffn
    if type(attn) is not Attention or type(ffn) is not FeedForward:
        return None
    if any(map(is_hooked, (block, attn, ffn))):
        return None
    assert attn.qkv is not None
    leaves = (block.attn_norm, attn.qkv, attn.out, block.ffn_norm, ffn.inner, ffn.down)
    (norm, a), (qkv, b), (out, c), (ffn_norm, d), (inner, e), (down, f) = (_call(m, product) for m in leaves)
    heads, kv_heads, d_head, scale = attn.num_heads, attn.num_kv_heads, attn.d_head, attn.scale
    parts, width, grouped = [heads, 2 * kv_heads], heads * d_head, heads != kv_heads
    shape = (width,) if product is one_token_product else (-1, width)
    turned, project = attn.turns, attn.project
    activate, gated, attend = ffn.activation, ffn.gated, F.scaled_dot_product_attention

    def step(x: Tensor, new: Tensor, held: Pair, angles: Angles | None) -> Tensor:
        h = qkv(norm(x, *a), *b)
        if turned:
            q, k, v = project(h, angles)
            q, kv = q.unsqueeze(2), torch.cat((k, v), dim=1).unsqueeze(2)
        else:
            q, kv = h.view(-1, heads + 2 * kv_heads, 1, d_head).split(parts, 1)  # (B, H or 2 K, 1, D)
        new.copy_(kv)
        y = attend(q, held[0], held[1], scale=scale, enable_gqa=grouped)
        x = x + out(y.view(shape), *c)
        h = inner(ffn_norm(x, *d), *e)
        if gated:
            gate, up = h.chunk(2, dim=-1)
            return x + down(activate(gate) * up, *f)
        return x + down(activate(h), *f)

    return step


def _call(module: nn.Module, product: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """What a leaf's call comes to, and its arguments after the first; with a hook it is the module itself."""
    own = module._parameters
    if not is_hooked(module):
        if type(module) is Projection:
            return product, (own["weight"], own["bias"])
        if type(module) is nn.LayerNorm:
            return torch.layer_norm, (module.normalized_shape, own["weight"], own["bias"], module.eps)
        if type(module) is RMSNorm:
            return module.forward, ()
    return (partial(_of_one, module) if product is one_token_product else module), ()


def _of_one(module: nn.Module, x: Tensor) -> Tensor:
    """x (M,) as the one row that a module expects -> (its width,)."""
    y: Tensor = module(x[None])
    return y[0]
