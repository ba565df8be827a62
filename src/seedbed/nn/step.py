"""A decoding step of a layer as the bare calls that it makes.

Between two products a decoding step costs Python: at batch 1 a 12 x 768 decoder spent 3.4 ms of 22 beside its
products, with the calls below 2.3 (AVX-512, 2026-11-24). They are those of `Block`, `Attention` and
`FeedForward`, found once for a decode state instead of in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.attention import Attention
from seedbed.nn.block import Block, FeedForward
from seedbed.nn.linear import Projection, is_hooked
from seedbed.nn.positions import Angles
from seedbed.nn.state import Pair

# x (B, M), where the new key and value go, all keys and values, the tokens' angles -> (B, M).
Step = Callable[[Tensor, Pair, Pair, Angles | None], Tensor]


def layer_steps(blocks: Iterable[nn.Module], product: Callable[..., Tensor]) -> list[Step] | None:
    """The steps of all layers, None where one of them has none."""
    steps = [layer_step(block, product) for block in blocks]
    return [step for step in steps if step is not None] if all(steps) else None


def layer_step(block: nn.Module, product: Callable[..., Tensor]) -> Step | None:
    """A layer over one token of each row, in evaluation, with `product` for F.linear.

    None for a layer that only its modules can run: another residual, cross-attention, a hook on it.
    """
    if type(block) is not Block or block.residual != "pre" or block.cross is not None:
        return None
    attn, ffn = block.attn, block.ffn
    if type(attn) is not Attention or type(ffn) is not FeedForward:
        return None
    if any(map(is_hooked, (block, attn, ffn))):
        return None
    assert attn.qkv is not None and block.ffn_norm is not None
    leaves = (block.attn_norm, attn.qkv, attn.out, block.ffn_norm, ffn.inner, ffn.down)
    (norm, a), (qkv, b), (out, c), (ffn_norm, d), (inner, e), (down, f) = (_call(m, product) for m in leaves)
    heads, kv_heads, d_head, scale = attn.num_heads, attn.num_kv_heads, attn.d_head, attn.scale
    parts, width, grouped = [heads, kv_heads, kv_heads], heads * d_head, heads != kv_heads
    turned, project = attn.qk_norm or attn.rotary, attn.project
    activate, gated, attend = ffn.activation, ffn.gated, F.scaled_dot_product_attention

    def step(x: Tensor, new: Pair, held: Pair, angles: Angles | None) -> Tensor:
        h = qkv(norm(x, *a), *b)
        if turned:
            q, k, v = (part.unsqueeze(2) for part in project(h, angles))
        else:
            q, k, v = h.view(-1, heads + 2 * kv_heads, 1, d_head).split(parts, 1)  # (B, H or K, 1, D)
        new[0].copy_(k)
        new[1].copy_(v)
        y = attend(q, held[0], held[1], scale=scale, enable_gqa=grouped)
        x = x + out(y.view(-1, width), *c)
        h = inner(ffn_norm(x, *d), *e)
        if gated:
            gate, up = h.chunk(2, dim=-1)
            return x + down(activate(gate) * up, *f)
        return x + down(activate(h), *f)

    return step


def _call(module: nn.Module, product: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """What a leaf's call comes to, and its arguments after the first; with a hook it is the module itself."""
    own = module._parameters
    if is_hooked(module):
        return module, ()
    if type(module) is Projection:
        return product, (own["weight"], own["bias"])
    if type(module) is nn.LayerNorm:
        return torch.layer_norm, (module.normalized_shape, own["weight"], own["bias"], module.eps)
    return module, ()
