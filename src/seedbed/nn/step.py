"""The fast path of a decoding step: the calls of a layer without its modules.

At batch 1 a 12 x 768 decoder spent 3.4 ms of 22 per step on Python between its matmuls, with the calls below
2.3 (AVX-512, 2026-11-24). They are the calls of `Block`, `Attention` and `FeedForward`, built once per decode
state. Every step first checks that modules, parameters and hooks are unchanged, which takes 0.01 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.attention import Attention
from seedbed.nn.block import ACTIVATIONS, Block, FeedForward
from seedbed.nn.config import PRE
from seedbed.nn.linear import hooks_of, is_hooked, plain_weights
from seedbed.nn.matmul import Call, one_token_call
from seedbed.nn.norms import RMSNorm
from seedbed.nn.positions import Angles
from seedbed.nn.state import KeysValues

# x (B, M), or (M,) with `one_token_call`; the view for the new keys and values (B, 2 K, 1, D); all keys and
# values; the tokens' angles -> the shape of x.
Step = Callable[[Tensor, Tensor, KeysValues, Angles | None], Tensor]
MakeCall = Callable[[Tensor, Tensor | None], Call]  # weight, bias -> their matmul
FastCall = tuple[Callable[..., Tensor], tuple[Any, ...]]  # a function, and its arguments after x


class LayerSteps:
    """The steps of a stack's layers for one token per row, with their matmuls from `matmul(weight, bias)`.

    `calls` is empty where only its modules can run a layer. The steps are current until a module or a
    parameter is replaced, a hook is added, or a layer is set to training.
    """

    def __init__(self, blocks: nn.Module, matmul: MakeCall) -> None:
        self.blocks, self.num_blocks = blocks, len(blocks._modules)
        self.matmul, self.flat = matmul, matmul is one_token_call
        self._tables: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._values: list[object] = []
        self._hooks: list[Mapping[int, Any]] = []
        calls = [self._layer(name, block) for name, block in blocks.named_children()]
        self.calls = [call for call in calls if call is not None]
        if len(self.calls) < len(calls):
            self.calls = []
            self._hooks.clear()

    def is_current(self, blocks: nn.Module) -> bool:
        """Whether everything that the steps were built from is unchanged."""
        if blocks is not self.blocks or len(blocks._modules) != self.num_blocks or any(self._hooks):
            return False
        return all(map(is_, map(dict.get, self._tables, self._names), self._values))

    def _layer(self, name: str, block: nn.Module) -> Step | None:
        """The step of one layer; None for another residual, cross-attention, a hook, or training."""
        self._watch(self.blocks._modules, name)
        if type(block) is not Block or block.residual != PRE or block.cross is not None:
            return None
        attn, ffn = block.attn, block.ffn
        if type(attn) is not Attention or type(ffn) is not FeedForward:
            return None
        for module, names in (
            (block, ("attn_norm", "attn", "ffn_norm", "ffn")),
            (attn, ("qkv", "out")),
            (ffn, ("inner", "down")),
        ):
            self._hooks += hooks_of(module)
            for child in names:
                self._watch(module._modules, child)
            self._watch(module.__dict__, "training")
        if any(map(is_hooked, (block, attn, ffn))) or block.training or attn.training:
            return None
        if ffn.activation not in ACTIVATIONS.values():
            return None
        assert attn.qkv is not None
        leaves = (block.attn_norm, attn.qkv, attn.out, block.ffn_norm, ffn.inner, ffn.down)
        return _step(attn, ffn, [self._call(leaf) for leaf in leaves], flat=self.flat)

    def _watch(self, table: dict[str, Any], name: str) -> None:
        """Make the steps depend on the present value of `table[name]`."""
        self._tables.append(table)
        self._names.append(name)
        self._values.append(table.get(name))

    def _call(self, module: nn.Module) -> FastCall:
        """The function of a plain norm or projection; otherwise the module itself."""
        found: FastCall
        if (weights := plain_weights(module)) is not None:
            found = self.matmul(*weights), ()
        elif type(module) is nn.LayerNorm and not is_hooked(module):
            found = torch.layer_norm, (module.normalized_shape, module.weight, module.bias, module.eps)
        elif type(module) is RMSNorm and not is_hooked(module):
            found = module.forward, ()
        else:
            return (partial(_call_on_one, module) if self.flat else module), ()
        for part in module.modules():
            self._hooks += hooks_of(part)
            for table in (part._parameters, part._modules):
                for name in table:
                    self._watch(table, name)
        return found


def _step(attn: Attention, ffn: FeedForward, calls: list[FastCall], *, flat: bool) -> Step:
    """The step of a layer from the calls of its norms and projections."""
    (norm, a), (qkv, _), (out, _), (ffn_norm, b), (inner, _), (down, _) = calls
    heads, kv_heads, d_head, scale = attn.num_heads, attn.num_kv_heads, attn.d_head, attn.scale
    parts, width, grouped = [heads, 2 * kv_heads], heads * d_head, heads != kv_heads
    shape = (width,) if flat else (-1, width)
    transforms_qk, project = attn.transforms_qk, attn.project
    activate, gated, attend = ffn.activation, ffn.gated, F.scaled_dot_product_attention

    def step(x: Tensor, new: Tensor, cached: KeysValues, angles: Angles | None) -> Tensor:
        h = qkv(norm(x, *a))
        if transforms_qk:
            q, k, v = project(h, angles)
            q, kv = q.unsqueeze(2), torch.cat((k, v), dim=1).unsqueeze(2)
        else:
            q, kv = h.view(-1, heads + 2 * kv_heads, 1, d_head).split(parts, 1)  # (B, H or 2 K, 1, D)
        new.copy_(kv)
        y = attend(q, cached[0], cached[1], scale=scale, enable_gqa=grouped)
        x = x + out(y.view(shape))
        h = inner(ffn_norm(x, *b))
        if gated:
            gate, up = h.chunk(2, dim=-1)
            return x + down(activate(gate) * up)
        return x + down(activate(h))

    return step


def _call_on_one(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module on x (M,) as a batch of one row -> (its width,)."""
    y: Tensor = module(x[None])
    return y[0]
