"""Attention over flat tokens, with any number of key/value heads. Letters as in layout.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Group, Layout, split_groups
from seedbed.nn.linear import Projection
from seedbed.nn.norms import RMSNorm
from seedbed.nn.positions import Angles, rotate
from seedbed.nn.state import CacheWindow, KeysValues


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionContext:
    """The inputs of attention that all layers of a pass share: groups of rows, their biases, cached keys."""

    layout: Layout  # of the queries
    groups: list[Group]
    biases: list[Tensor | None]  # (B or 1, H or 1, T, S): added to the scores, or True where a key is visible
    causal: bool  # where a group has no bias, the kernel's own causal mask
    angles: Angles | None = None
    memory: Tensor | None = None  # (N_memory, M) encoder states; None: the queries' own tokens, or the cache
    cache: CacheWindow | None = None

    @cached_property
    def queries(self) -> list[tuple[int, int]]:
        """Rows and queries of each group."""
        return [(group.num_rows, group.num_queries) for group in self.groups]

    @cached_property
    def keys(self) -> list[tuple[int, int]]:
        """Rows and keys of each group."""
        return [(group.num_rows, group.num_keys) for group in self.groups]


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 1706.03762, 3.2); grouped-query if K < H (2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int, *, cross: bool) -> None:
        super().__init__()
        self.layer, self.d_head, self.dropout = layer, config.d_head, config.dropout
        self.num_heads, self.num_kv_heads = config.num_heads, config.kv_heads
        self.scale, self.norm_eps = config.attention.scale, config.norm_eps
        self.normalize: Callable[..., Tensor] | None = None
        self.q_norm = self.k_norm = None
        qk_norm = config.attention.qk_norm
        if qk_norm == "plain":
            self.normalize = F.layer_norm if config.norm.startswith("layer") else F.rms_norm
        elif qk_norm == "rms" and not cross:
            self.q_norm, self.k_norm = (
                RMSNorm(self.d_head, eps=config.norm_eps, weight=True) for _ in range(2)
            )
        self.transforms_qk = config.position.kind == "rotary" or qk_norm != "none"
        self.interleaved = config.position.rotary_interleaved
        q, kv = self.num_heads * self.d_head, self.num_kv_heads * self.d_head
        bias = config.bias != "none"
        keys_values = {"k": kv, "v": kv}
        queries = Projection(config.d_model, {"q": q} | ({} if cross else keys_values), bias=bias)
        self.q, self.qkv = (queries if cross else None), (None if cross else queries)
        self.kv = Projection(config.d_model, keys_values, bias=bias) if cross else None
        self.out = Projection(q, {"out": config.d_model}, bias=config.bias == "all")
        if qk_norm == "none" and self.scale is not None:
            # The optimizer's steps are shorter for the queries where the scores are not scaled, as in T5.
            queries.step_scales["q"] = self.d_head**-0.5 / self.scale

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        """x (N, M) attends to its own rows or, in cross-attention, to the memory's -> (N, M)."""
        cache = context.cache
        if self.qkv is not None:
            q, k, v = self.project(self.qkv(x), context.angles)
            if cache is not None:
                cache.write(self.layer, k, v)
        else:
            assert self.q is not None
            q = self.q(x).view(-1, self.num_heads, self.d_head)
            if context.memory is not None:
                k, v = self.project_memory(context.memory)
        if cache is not None:
            keys_values: Sequence[KeysValues] = cache.read_views[self.layer]
        else:
            shapes = context.keys
            keys_values = list(zip(split_groups(k, shapes), split_groups(v, shapes), strict=True))
        queries = split_groups(q, context.queries)
        outputs = [
            self._attend(query, *kv, bias, context.causal)
            for query, kv, bias in zip(queries, keys_values, context.biases, strict=True)
        ]
        y: Tensor = self.out(outputs[0] if len(outputs) == 1 else torch.cat(outputs))
        return y

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory's tokens (N, M): (N, K, D) each."""
        assert self.kv is not None
        k, v = self.kv(memory).view(-1, 2 * self.num_kv_heads, self.d_head).split(self.num_kv_heads, dim=1)
        return k, v

    def project(self, qkv: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, D), keys and values (N, K, D), normed and rotated where the config says so."""
        heads, kv_heads = self.num_heads, self.num_kv_heads
        x = qkv.view(-1, heads + 2 * kv_heads, self.d_head)  # (N, H + 2 K, D)
        if angles is None and not self.transforms_qk:
            q, k, v = x.split([heads, kv_heads, kv_heads], dim=1)
            return q, k, v
        qk, v = x.split([heads + kv_heads, kv_heads], dim=1)
        if self.normalize is not None:
            qk = self.normalize(qk, (self.d_head,), eps=self.norm_eps)
        elif self.q_norm is not None and self.k_norm is not None:
            q, k = qk.split([heads, kv_heads], dim=1)
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1)
        if angles is not None:
            qk = rotate(qk, angles, interleaved=self.interleaved)
            if x.requires_grad:
                v = v.contiguous()  # so that the memory of q and k before the rotation is not kept
        q, k = qk.split([heads, kv_heads], dim=1)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
        """q (B, H, T, D) over k, v (B, K, S, D) -> (B T, H D)."""
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal and bias is None and q.size(2) > 1,
            scale=self.scale,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        return y.transpose(1, 2).reshape(-1, self.num_heads * self.d_head)
