"""One Transformer for the three shapes, which differ only in their stacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seedbed.nn.attention import AttentionContext
from seedbed.nn.block import ACTIVATIONS
from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import Embedding, EmbeddingLike, NetworkBase, Projection
from seedbed.nn.norms import make_norm
from seedbed.nn.stack import Stack, key_padding
from seedbed.nn.state import AttentionState, DecodeState, KVCache


class HeadTransform(nn.Module):
    """A projection before the output: of a masked model with a norm (BERT, 1810.04805), else with tanh."""

    def __init__(self, config: ModelConfig, *, masked: bool) -> None:
        super().__init__()
        self.dense = Projection(config.d_model, {"dense": config.d_model}, bias=True)
        self.activation = ACTIVATIONS[config.activation] if masked else torch.tanh
        self.norm = make_norm(config) if masked else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., M) -> (..., M)."""
        y: Tensor = self.activation(self.dense(x))
        return y if self.norm is None else self.norm(y)


class Transformer(NetworkBase):
    """An encoder, a decoder or both; `forward` returns hidden states, `output` the logits of some of them.

    Decoding is `start`, then `extend` with the tokens of a prompt, of one step, or of a draft.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        embed = Embedding(config.vocab_size, config.d_model)
        self.embed: EmbeddingLike = embed
        self.encoder = self.decoder = None
        if config.shape != "decoder":
            self.encoder = Stack(config.encoder_config, causal=False, cross=False)
        if config.shape != "encoder":
            self.decoder = Stack(config, causal=True, cross=config.shape == "encoder-decoder")
        head = config.head
        masked = head.kind == "mlm"
        self.transform = HeadTransform(config, masked=masked) if masked or head.dense else None
        self.output_bias = nn.Parameter(torch.empty(config.vocab_size)) if masked else None
        self.pooler = self.classifier = None
        if head.pooler:
            self.pooler = Projection(config.d_model, {"pooler": config.d_model}, bias=True)
        if head.labels:
            # In published decoders a classifier of rows has no bias, one of tokens has.
            bias = config.shape != "decoder" or head.kind == "tagging"
            self.classifier = Projection(config.d_model, {"classifier": len(head.labels)}, bias=bias)
        self.unembed = None  # the embedding's own module: replacing one replaces both
        if not config.tie_embeddings and head.kind in ("lm", "mlm"):
            self.unembed = Projection(config.d_model, {"unembed": config.vocab_size}, bias=False)
            self.unembed.step_scales["unembed"] = 1 / config.output_scale
        elif config.tie_embeddings:
            embed.step_scale = 1 / config.output_scale

    def encode(self, ids: Tensor, layout: Layout, *, segments: Tensor | None = None) -> Tensor:
        """ids (N,) -> the encoder's hidden states (N, M)."""
        assert self.encoder is not None
        return self.encoder(self._embed(ids), layout, segments=segments)  # type: ignore[no-any-return]

    def forward(
        self,
        ids: Tensor,
        layout: Layout,
        *,
        source: Tensor | None = None,
        source_layout: Layout | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """ids (N,), source (N_source,) -> hidden states (N, M); row r attends to row r of the source."""
        if self.decoder is None:
            return self.encode(ids, layout, segments=segments)
        memory = None
        if source is not None:
            assert source_layout is not None
            groups = layout.groups(source_layout.lengths, source_layout.slots)
            memory = AttentionContext(
                layout=layout,
                groups=groups,
                biases=[None] * len(groups),
                causal=False,
                memory=self.encode(source, source_layout),
            )
        # An embedding with `tied` also offers an output that shares the gradient of the lookup.
        tied = getattr(self.embed, "tied", None) if self.unembed is None else None
        x, unembed = (self.embed(ids), None) if tied is None else tied(ids)
        hidden: Tensor = self.decoder(self._scale(x), layout, memory=memory)
        if unembed is not None:
            hidden.unembed = unembed  # type: ignore[attr-defined]  # for `output` of these states
        return hidden

    def output(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) or (..., labels) of those hidden states (..., M) that are used."""
        if self.config.head.kind == "none":
            return hidden
        unembed = getattr(hidden, "unembed", self.embed.unembed)
        if self.classifier is not None:  # over a base of another type, an adapter's head is float32
            hidden = hidden.to(self.classifier.dense()[0].dtype)
        if self.transform is not None:
            hidden = self.transform(hidden)
        elif self.pooler is not None and self.config.head.kind == "classification":
            hidden = torch.tanh(self.pooler(hidden))
        if self.classifier is not None:
            labelled: Tensor = self.classifier(F.dropout(hidden, self.config.dropout, self.training))
            return labelled
        if self.config.output_scale != 1:
            hidden = hidden * self.config.output_scale
        logits = self.unembed(hidden) if self.unembed is not None else unembed(hidden, self.output_bias)
        cap = self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def classify(self, hidden: Tensor, layout: Layout) -> Tensor:
        """Logits (rows, labels) of hidden (N, M), from an encoder's first token or a decoder's last one."""
        assert all(layout.lengths)
        index = torch.tensor(layout.last_tokens(), device=hidden.device)
        if self.config.shape == "encoder":
            index = index - torch.tensor(layout.lengths, device=hidden.device) + 1
        return self.output(hidden[index])

    def start(
        self,
        num_rows: int,
        capacity: int,
        *,
        source: Tensor | None = None,
        source_layout: Layout | None = None,
    ) -> AttentionState:
        """A decode state of empty rows of up to `capacity` tokens; row r attends to row r of the source."""
        assert self.decoder is not None
        state = AttentionState(self._kv_cache(num_rows, capacity))
        if source is not None:
            assert source_layout is not None
            encoded = self.encode(source, source_layout)
            state.memory = self._kv_cache(num_rows, max(source_layout.lengths))
            state.memory.lengths = list(source_layout.lengths)
            groups = source_layout.groups(source_layout.totals, source_layout.slots)
            window = state.memory.window(source_layout, groups)
            for layer, block in enumerate(self.decoder.blocks):
                cross: Any = block.cross
                window.write(layer, *cross.project_memory(encoded))
        return state

    def extend(self, state: DecodeState, ids: Tensor, layout: Layout) -> Tensor:
        """Append ids (N,) to the rows, with the layout from `state.layout` -> their hidden states (N, M)."""
        assert isinstance(state, AttentionState) and self.decoder is not None
        memory, cache = None, state.memory
        if cache is not None:
            groups = layout.groups(cache.lengths, cache.slots, self.decoder.slack)
            biases = [key_padding(group, ids.device) for group in groups]
            window = cache.window(layout, groups)
            memory = AttentionContext(layout=layout, groups=groups, biases=biases, causal=False, cache=window)
        hidden = self.decoder(self._embed(ids), layout, state=state, memory=memory)
        state.advance(layout)
        return hidden  # type: ignore[no-any-return]

    def _embed(self, ids: Tensor) -> Tensor:
        return self._scale(self.embed(ids))

    def _scale(self, x: Tensor) -> Tensor:
        scale = self.config.embedding_scale
        # The scale is rounded to the type of the states, as in Gemma.
        return x * torch.tensor(scale, dtype=x.dtype, device=x.device) if scale != 1 else x

    def _kv_cache(self, num_rows: int, capacity: int) -> KVCache:
        config = self.config
        like = torch.empty(0, config.d_head, dtype=self.dtype, device=self.device)
        return KVCache(config.num_layers, num_rows, num_heads=config.kv_heads, capacity=capacity, like=like)
