"""A stack of blocks with its positions: an encoder or a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seedbed.nn.attention import AttentionContext
from seedbed.nn.block import Block
from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Group, Layout
from seedbed.nn.linear import Embedding
from seedbed.nn.matmul import few_tokens_call, is_plain, linear_call, may_use_onednn, one_token_call
from seedbed.nn.norms import make_norm
from seedbed.nn.positions import (
    alibi_slopes,
    distance_buckets,
    rotary_angles,
    rotary_frequencies,
    sinusoidal_table,
)
from seedbed.nn.state import AttentionState
from seedbed.nn.step import LayerSteps, MakeCall

# An attention call costs as much as reading this many numbers of keys and values (2 cores, 2026-11).
CALL_NUMBERS = 100_000


class Stack(nn.Module):
    """The positions and blocks of an encoder or decoder: embedded tokens (N, M) -> hidden states (N, M).

    A pass without a `state` computes whole rows; with one it appends tokens to the rows of a decode state.
    A step of one token per row takes the fast path of nn/step.py where the layers allow it.
    """

    sinusoids: Tensor
    frequencies: Tensor
    slopes: Tensor

    def __init__(self, config: ModelConfig, *, causal: bool, cross: bool) -> None:
        super().__init__()
        position = config.position
        self.position_config, self.window = position, config.attention.window
        self.causal, self.dropout = causal, config.dropout
        self.checkpoint_activations = False
        self.slack = CALL_NUMBERS // (2 * config.kv_heads * config.d_head)
        self.position = self.buckets = None
        if position.kind == "learned":
            self.position = Embedding(config.max_positions + position.offset, config.d_model)
        elif position.kind == "sinusoidal":
            table = sinusoidal_table(config.max_positions, config.d_model)
            self.register_buffer("sinusoids", table, persistent=False)
        elif position.kind == "rotary":
            self.register_buffer("frequencies", rotary_frequencies(position, config.d_head), persistent=False)
        elif position.kind == "alibi":
            self.register_buffer("slopes", alibi_slopes(config.num_heads), persistent=False)
        else:
            self.buckets = Embedding(position.num_buckets, config.num_heads)
        self.segment = Embedding(config.segment_types, config.d_model) if config.segment_types else None
        self.embed_norm = make_norm(config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(Block(config, i, cross=cross) for i in range(config.num_layers))
        self.final_norm = make_norm(config) if config.residual.final_norm else None

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        *,
        segments: Tensor | None = None,
        state: AttentionState | None = None,
        memory: AttentionContext | None = None,
    ) -> Tensor:
        """x (N, M), segments (N,) -> (N, M)."""
        x = self._embed(x, layout, segments)
        own = self._context(layout, x.dtype, state)
        if state is not None and (matmul := self._fast_matmul(own, x)) is not None:
            steps = state.steps.get(matmul)
            if steps is None or not steps.is_current(self.blocks):
                steps = state.steps[matmul] = LayerSteps(self.blocks, matmul)
            if steps.calls:
                return self._advance(x, own, steps)
        for block in self.blocks:
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(block, x, own, memory, use_reentrant=False)
            else:
                x = block(x, own, memory)
        return self._norm_final(x)

    def _fast_matmul(self, own: AttentionContext, x: Tensor) -> MakeCall | None:
        """The matmul of the fast path; None unless each row has one token after a past of one length."""
        assert own.cache is not None
        if self.training or not own.cache.is_rectangle or own.queries[0][1] > 1 or own.biases[0] is not None:
            return None
        if len(x) == 1 and is_plain(x):
            return one_token_call
        return few_tokens_call if may_use_onednn(len(x), x) else linear_call

    def _advance(self, x: Tensor, own: AttentionContext, steps: LayerSteps) -> Tensor:
        """x (B, M) through the fast path of the layers and the final norm."""
        cache = own.cache
        assert cache is not None
        y = x.view(-1) if steps.flat else x
        for step, new, (kv,) in zip(steps.calls, cache.write_views, cache.read_views, strict=True):
            y = step(y, new, kv, own.angles)
        return self._norm_final(y.view(x.shape))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stack:
        """Move the tables of positions with the weights, but keep their type: angles need float32."""
        tables = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, table in tables.items():
            setattr(self, name, table.to(getattr(self, name).device))
        return self

    def _norm_final(self, x: Tensor) -> Tensor:
        return x if self.final_norm is None else self.final_norm(x)

    def _embed(self, x: Tensor, layout: Layout, segments: Tensor | None) -> Tensor:
        if self.position is not None:
            x = x + self.position(layout.positions + self.position_config.offset)
        elif self.position_config.kind == "sinusoidal":
            x = x + self.sinusoids[layout.positions].to(x.dtype)
        if self.segment is not None:
            # Without segments all tokens are in the first.
            x = x + self.segment(layout.positions.new_zeros(1) if segments is None else segments)
        if self.embed_norm is not None:
            x = self.embed_norm(x)
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _context(self, layout: Layout, dtype: torch.dtype, state: AttentionState | None) -> AttentionContext:
        angles = None
        if self.position_config.kind == "rotary":
            angles = rotary_angles(layout.positions, self.frequencies)
        groups = layout.groups(layout.totals, layout.slots, 0 if state is None else self.slack)
        return AttentionContext(
            layout=layout,
            groups=groups,
            biases=[self._bias(group, layout.positions, dtype) for group in groups],
            causal=self.causal,
            angles=angles,
            cache=None if state is None else state.keys.window(layout, groups),
        )

    def _bias(self, group: Group, positions: Tensor, dtype: torch.dtype) -> Tensor | None:
        """The mask or bias of a group's scores (B or 1, H or 1, T, S): distance, causality and padding."""
        t, s, kind = group.num_queries, group.num_keys, self.position_config.kind
        relative, window = kind in ("alibi", "buckets"), self.window
        reaches = window is None or s <= window
        if group.is_even and not relative and reaches and (t in (1, s) or not self.causal):
            return None  # all keys are visible, or the kernel's causal mask is right
        # Rows of one length after pasts of one length have equal distances: one row's serve them all.
        rows = 1 if group.is_even else group.num_rows
        query = positions[group.first_token :][: t * rows].view(-1, 1, t, 1)
        distance = torch.arange(s, device=query.device) - query  # (B or 1, 1, T, S)
        # Padding keys are after the last query; an encoder's rows have none.
        visible = distance <= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)
        if window is not None:
            visible &= distance.abs() < window
        if not relative:
            return visible
        if kind == "alibi":
            bias = self.slopes[:, None, None] * distance
        else:
            assert self.buckets is not None
            buckets = distance_buckets(distance[:, 0], self.position_config, bidirectional=not self.causal)
            bias = self.buckets(buckets).permute(0, 3, 1, 2)
        bias = bias.to(dtype)
        return bias.masked_fill(~visible, -torch.inf) if self.causal or not reaches else bias


def key_padding(group: Group, device: torch.device) -> Tensor | None:
    """True where a key is real, (B, 1, 1, S); None where all are."""
    if group.is_even:
        return None
    lengths = torch.tensor(group.key_lengths, device=device)
    return (torch.arange(group.num_keys, device=device) < lengths[:, None])[:, None, None]
